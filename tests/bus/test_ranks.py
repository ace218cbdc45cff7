"""Several processes that train together: a subscriber runs on rank 0, or on all."""

from __future__ import annotations

import pytest

from stepbus import ArgumentError, Event, EventBus, StepEnd, Subscriber, TrainerState
from stepbus.bus.ranks import Ranks, ranks_of


class Everywhere(Subscriber):
    ranks = "all"

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_step_end(self, event: StepEnd) -> None:
        self.steps.append(event.step)


def on_rank(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")


@pytest.mark.parametrize(("rank", "heard"), [(0, 3), (1, 2)])
def test_a_subscriber_runs_on_rank_0_unless_it_says_all(
    rank: int, heard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_rank(rank, monkeypatch)
    seen: list[str] = []
    everywhere = Everywhere()
    with EventBus() as bus:
        bus.subscribe("step_end")(lambda event: seen.append("zero"))
        bus.subscribe("step_end", ranks="all")(lambda event: seen.append("all"))
        bus.subscribe(everywhere)
        link = bus.open_run(TrainerState(global_step=1), rank=rank)
        link.emit("step_end")
        assert bus.flush(20)
        bus.close_run(link)
    assert len(seen) + len(everywhere.steps) == heard
    assert everywhere.steps == [1]


def test_on_another_rank_nobody_is_emitted_to_and_all_can_be_unsubscribed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_rank(1, monkeypatch)

    def handler(event: Event) -> None:
        raise AssertionError("called on rank 1")

    with EventBus() as bus:
        bus.subscribe("*")(handler)
        bus.subscribe("step_end", delivery="gate")(handler)
        link = bus.open_run(TrainerState(), rank=1)
        assert not link.emitters["step_end"].active
        bus.unsubscribe(handler)
        with pytest.raises(ArgumentError, match="not subscribed"):
            bus.unsubscribe(handler)
        bus.close_run(link)


def test_a_reader_of_events_reads_those_of_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    on_rank(1, monkeypatch)
    with EventBus() as bus:
        reader = bus.events("step_end")
        link = bus.open_run(TrainerState(), rank=1)
        assert reader is not None
        assert link.emitters["step_end"].wanted
        bus.close_run(link)


@pytest.mark.parametrize("ranks", ["one", 0, None, ""])
def test_other_ranks_are_refused_by_name(ranks: object) -> None:
    with EventBus() as bus, pytest.raises(ArgumentError, match="ranks="):
        bus.subscribe("step_end", ranks=ranks)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("environ", "ranks"),
    [
        ({}, Ranks(0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "4"}, Ranks(1, 4)),
        ({"RANK": "x", "WORLD_SIZE": "4"}, Ranks(0, 1)),
    ],
)
def test_the_rank_is_that_of_torchrun(environ: dict[str, str], ranks: Ranks) -> None:
    assert ranks_of(environ) == ranks
