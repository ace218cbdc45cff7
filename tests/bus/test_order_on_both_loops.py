"""Order, filters and votes of async handlers, on asyncio and trio alike."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepbus.bus import EventBus
from stepbus.schemas import Event, Log, StepEnd, TrainerState, Vote


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=15)
@given(
    kinds=st.lists(st.sampled_from(["step_end", "log", "epoch_end"]), max_size=40),
    every=st.integers(1, 5),
    votes_at=st.sets(st.integers(1, 40), max_size=5),
)
def test_async_handlers_get_their_events_in_order_and_their_votes_arrive(
    backend: str, kinds: list[str], every: int, votes_at: set[int]
) -> None:
    everything: list[tuple[int, str]] = []
    steps: list[int] = []
    logs: list[int] = []
    with EventBus(backend=backend) as bus:

        @bus.subscribe("*")
        async def see(event: Event) -> None:
            everything.append((event.seq, event.name))

        @bus.subscribe(StepEnd, every=every)
        async def step(event: StepEnd) -> Vote | None:
            steps.append(event.step)
            return Vote("save") if event.step in votes_at else None

        @bus.subscribe("log", every=every)
        async def log(event: Log) -> None:
            logs.append(event.seq)

        state = TrainerState()
        link = bus.open_run(state)
        for kind in kinds:
            if kind == "step_end":
                state.global_step += 1
            link.emit(kind, {"logs": {}} if kind == "log" else {})
        assert bus.flush(20)
        voted = link.votes.decide("save", state.global_step)
        bus.close_run(link)
    assert everything == list(enumerate(kinds))
    assert steps == list(range(every, kinds.count("step_end") + 1, every))
    numbers = [seq for seq, kind in enumerate(kinds) if kind == "log"]
    assert logs == numbers[every - 1 :: every]
    assert (voted is not None) == bool(votes_at & set(steps))
