"""How much memory waiting events take: an estimate that is held against what is allocated."""

import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.bus import EventBus, Mailbox
from stepbus.bus.memory_held import size_of
from stepbus.schemas import Log, StepEnd, TrainerState, Verdict, Vote

NUM = 2_000
NAMES = [f"metric_{n}" for n in range(40)]


def a_step(number: int) -> StepEnd:
    return StepEnd(
        run_id="run",
        seq=number + 1_000,
        time=1e9 + number,
        monotonic=1e3 + number,
        step=number + 1_000,
        epoch=number * 0.1,
        loss=number * 0.2,
        step_s=number * 0.3,
    )


def a_log(number: int) -> Log:
    logs: dict[str, Any] = {name: number * 0.1 + n for n, name in enumerate(NAMES)}
    return Log(seq=number + 1_000, time=1e9 + number, step=number + 1_000, logs=logs)


def a_verdict(number: int) -> Verdict:
    votes = (Vote("save", reason=f"reason number {number}", step=number + 1_000),)
    return Verdict(action="save", outcome="acted", votes=votes, detail=f"checkpoint-{number:09}")


@pytest.mark.parametrize("make", [a_step, a_log, a_verdict])
def test_the_size_of_an_event_is_what_one_more_takes(make: Callable[[int], Any]) -> None:
    make(0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    events = [make(number) for number in range(NUM)]
    took = (tracemalloc.get_traced_memory()[0] - before) / NUM
    tracemalloc.stop()
    assert 0.7 <= size_of(events[-1]) / took <= 1.3


@given(waiting=st.integers(0, 300), most=st.integers(1, 20))
def test_a_sample_is_spread_over_all_that_waits_and_takes_nothing(waiting: int, most: int) -> None:
    mailbox = Mailbox()
    events = [Log(step=number, logs={}) for number in range(waiting)]
    mailbox.put(events)
    steps = [event.step for event in mailbox.sample(most)]
    assert len(steps) == min(most, waiting)
    assert steps == sorted(set(steps))
    assert len(mailbox) == waiting
    if waiting >= 2 * most:
        assert steps[-1] >= (waiting // most) * (most - 1)


def test_the_ledger_tells_what_waits_takes(bus: EventBus) -> None:
    started, release = threading.Event(), threading.Event()

    @bus.subscribe("step_end", name="held")
    def held_back(event: StepEnd) -> None:
        started.set()
        release.wait(30)

    assert bus.ledger["held"].bytes_held == 0
    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(1_001):
        state.global_step += 1
        link.emit("step_end", {"loss": 1.5})
    assert started.wait(10)
    assert bus._pump is not None
    assert bus._pump.drain(10)
    row = bus.ledger["held"]
    assert row.pending == 1_000
    assert 1_000_000 < row.bytes_held < 3_000_000
    assert bus.ledger.bytes_held == row.bytes_held
    release.set()
    assert bus.flush(10)
    row = bus.ledger["held"]
    assert row.bytes_held == 0
    assert 1_000_000 < row.peak_bytes < 3_000_000
