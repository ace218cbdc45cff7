"""The run behind every bridge, driven by a loop that has flags as foreign trainers have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stepbus import Event, EventBus, StepEnd, Verdict, Vote
from stepbus.bus.ranks import Ranks
from stepbus.engine.bridges.bridged_run import BridgedRun
from stepbus.engine.rounds import Unavailable


class ForeignLoop:
    """Three steps of somebody else's trainer; it may lose the first flags that it is given."""

    def __init__(self, bus: EventBus, folder: Path, ranks: Ranks = Ranks(), loses: int = 0) -> None:  # noqa: B008
        self.flags: set[str] = set()
        self.done: list[tuple[str, int]] = []
        self.loses = loses
        self.run = BridgedRun(
            bus,
            {
                "log": self._cannot_log,
                "save": self._ask,
                "stop": self._ask_to_stop,
            },
            output_dir=folder,
            ranks=ranks,
            vetoed=self.flags.discard,
        )

    def _cannot_log(self, outcome: Any) -> str:
        raise Unavailable("there is nothing to log with")

    def _ask(self, outcome: Any) -> None:
        self.flags.add(outcome.action)
        self.run.asked.note(outcome)

    def _ask_to_stop(self, outcome: Any) -> None:
        self.flags.add("stop")

    def train(self, steps: int = 3) -> None:
        run = self.run
        run.open()
        run.begin({"max_steps": steps})
        step = 0
        while step < steps and "stop" not in self.flags:
            run.begin_step()
            step += 1
            run.at(step, step / steps)
            run.end_step(learning_rate=0.5)
            if "save" in self.flags:
                self.flags.discard("save")
                if self.loses:
                    self.loses -= 1
                else:
                    self.done.append(("save", step))
                    run.asked.done("save", f"saved at step {step}")
        run.finish({"train_loss": 1.0}, stopped=step < steps)
        run.close()


def record(bus: EventBus) -> list[Event]:
    events: list[Event] = []
    bus.subscribe("*")(events.append)
    return events


def verdicts(events: list[Event]) -> list[tuple[str, str, str, int]]:
    return [
        (v.action, v.outcome, v.votes[0].reason, v.acted_at)
        for v in events
        if isinstance(v, Verdict)
    ]


def test_a_bus_that_is_not_running_is_started_for_the_run_and_stopped(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    loop = ForeignLoop(bus, tmp_path)
    loop.train()
    assert not bus.running
    names = [event.name for event in events]
    assert names == ["init_end", "train_begin", *["step_end"] * 3, "train_end"]
    assert [event.seq for event in events] == list(range(6))
    last = events[4]
    assert isinstance(last, StepEnd)
    assert (last.step, last.learning_rate, last.state.global_step) == (3, 0.5, 3)
    assert last.step_s > 0
    assert last.step_s >= last.data_wait_s >= 0
    assert loop.run.summary is not None
    assert loop.run.summary.status == "finished"
    assert (tmp_path / "ledger.json").exists()
    assert (tmp_path / "run.json").exists()


def test_a_vote_acts_once_the_trainer_has_done_it_though_it_lost_the_flag(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    loop = ForeignLoop(bus, tmp_path, loses=1)
    bus.vote("save", reason="to be safe")
    loop.train()
    assert loop.done == [("save", 2)]
    assert verdicts(events) == [("save", "acted", "to be safe", 2)]


def test_what_a_trainer_never_does_is_refused_at_its_end(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    loop = ForeignLoop(bus, tmp_path, loses=9)
    bus.vote("save", reason="to be safe")
    bus.vote("log", reason="to see")
    loop.train()
    assert sorted(verdicts(events)) == [
        ("log", "refused", "to see", 1),
        ("save", "refused", "to be safe", 3),
    ]


def test_a_gate_handler_stops_at_its_very_step_and_the_reason_is_on_record(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)

    @bus.subscribe("step_end", delivery="gate")
    def enough(event: StepEnd) -> Vote | None:
        return Vote("stop", reason="enough") if event.step == 2 else None

    loop = ForeignLoop(bus, tmp_path)
    loop.train()
    assert verdicts(events) == [("stop", "acted", "enough", 2)]
    end = events[-1]
    assert (end.name, end.status, end.reason) == ("train_end", "stopped", "enough")  # type: ignore[attr-defined]


def test_with_several_ranks_a_vote_is_refused_and_sets_no_flag(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    bus.vote("save", reason="to be safe")
    bus.vote("stop", reason="enough")
    loop = ForeignLoop(bus, tmp_path, ranks=Ranks(0, 2))
    loop.train()
    assert loop.done == []
    assert not loop.flags
    found = [v for v in events if isinstance(v, Verdict)]
    assert {(v.action, v.outcome) for v in found} == {("save", "refused"), ("stop", "refused")}
    assert all(v.detail.startswith("several ranks") for v in found)


def test_logged_values_are_numbers_and_what_is_none_is_left_out(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    run = BridgedRun(bus, {}, output_dir=tmp_path)
    run.open()
    run.begin({})
    run.at(1, 0.5)
    run.log({"loss": torch.tensor(2.0), "many": torch.zeros(3), "note": "x"})
    run.finish()
    run.close()
    log = next(event for event in events if event.name == "log")
    assert log.logs == {"loss": 2.0, "note": "x"}  # type: ignore[attr-defined]
    assert log.state.log_history == [{"epoch": 0.5, "loss": 2.0, "note": "x", "step": 1}]


def test_a_failure_is_an_event_and_the_bus_is_stopped(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    run = BridgedRun(bus, {}, output_dir=tmp_path)
    run.open()
    run.begin({})
    run.fail(ValueError("no such weight"))
    run.close()
    assert not bus.running
    assert (events[-1].name, events[-1].message) == ("run_failed", "no such weight")  # type: ignore[attr-defined]
    assert run.summary is not None
    assert run.summary.status == "failed"


@pytest.mark.parametrize("trains", [True, False])
def test_votes_that_wait_go_to_a_training_only(tmp_path: Path, trains: bool) -> None:
    bus = EventBus()
    bus.vote("stop")
    run = BridgedRun(bus, {}, output_dir=tmp_path, trains=trains)
    run.open()
    assert run.link.votes.has_votes == trains
    run.close()
