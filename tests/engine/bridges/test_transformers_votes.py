"""Votes from the bus act through the control of transformers' Trainer, and are never lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from stepbus import Event, EventBus, TrainEnd, TransformersBridge, Verdict, Vote
from tests.engine.bridges.their_trainer import make_trainer

HOOKS = """
init_end train_begin epoch_begin step_begin substep_end pre_optimizer_step optimizer_step step_end
log prediction_step evaluate save epoch_end
""".split()
"""Every event at which a flag of theirs can be lost, and those at which none is."""
DONE = {"log": "log", "evaluate": "evaluate", "save": "save"}


def record(bus: EventBus) -> list[Event]:
    events: list[Event] = []
    bus.subscribe("*")(events.append)
    return events


def verdicts(events: list[Event]) -> list[Verdict]:
    return [event for event in events if isinstance(event, Verdict)]


def vote_once_at(bus: EventBus, hook: str, action: str, step: int, **options: Any) -> None:
    voted: list[int] = []

    @bus.subscribe(hook, name="voter", **options)
    def voter(event: Event) -> Vote | None:
        if voted or event.step < step:
            return None
        voted.append(event.step)
        return Vote(action, reason=f"{action} at {hook}")


@pytest.mark.parametrize("action", ["log", "evaluate", "save", "stop", "stop_epoch"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_vote_cast_at_any_event_is_kept_until_it_acts(
    tmp_path: Path, hook: str, action: str
) -> None:
    bus = EventBus()
    events = record(bus)
    early = hook in ("init_end", "train_begin", "epoch_begin")
    vote_once_at(bus, hook, action, 0 if early else 1, delivery="gate")
    trainer = make_trainer(
        tmp_path,
        TransformersBridge(bus),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
    )
    trainer.train()
    (verdict,) = verdicts(events)
    assert (verdict.action, verdict.outcome) == (action, "acted"), verdict.detail
    # Where the schedule had asked for the same, it stands there too.
    assert [vote.reason for vote in verdict.votes if vote.reason] == [f"{action} at {hook}"]
    if action in DONE:
        at = [event.step for event in events if event.name == DONE[action]]
        assert verdict.acted_at in at
    elif action == "stop":
        assert trainer.state.global_step == verdict.acted_at < 6
        end = events[-1]
        assert isinstance(end, TrainEnd)
        assert (end.status, end.reason, end.stopped_by) == ("stopped", f"stop at {hook}", "voter")
    elif hook != "epoch_end":
        assert trainer.state.global_step < 6


@pytest.mark.parametrize("action", ["log", "evaluate", "save", "stop"])
def test_a_gate_handler_is_obeyed_at_its_very_step(tmp_path: Path, action: str) -> None:
    bus = EventBus()
    events = record(bus)
    vote_once_at(bus, "step_end", action, 3, delivery="gate")
    trainer = make_trainer(tmp_path, TransformersBridge(bus), logging_strategy="no")
    trainer.train()
    (verdict,) = verdicts(events)
    assert (verdict.outcome, verdict.seen_at, verdict.acted_at) == ("acted", 3, 3)
    assert verdict.point == "step_end"
    if action == "stop":
        assert trainer.state.global_step == 3
    else:
        assert next(e.step for e in events if e.name == action) == 3
    if action == "save":
        assert (tmp_path / "checkpoint-3" / "run.json").exists()
        assert verdict.detail == str(tmp_path / "checkpoint-3")


@pytest.mark.parametrize("action", ["log", "evaluate", "save", "stop"])
def test_a_handler_in_a_thread_is_obeyed_at_the_next_merge_point(
    tmp_path: Path, action: str
) -> None:
    bus = EventBus()
    events = record(bus)
    vote_once_at(bus, "step_end", action, 2)
    bus.subscribe("step_end", delivery="gate", name="waits")(lambda event: bus.flush(20) and None)
    make_trainer(tmp_path, TransformersBridge(bus), logging_strategy="no").train()
    (verdict,) = verdicts(events)
    assert (verdict.outcome, verdict.seen_at) == ("acted", 2)
    assert 2 <= verdict.acted_at <= 3


def test_a_coroutine_is_obeyed_too(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)

    @bus.subscribe("log")
    async def enough(event: Event) -> Vote | None:
        return Vote("stop", reason="enough") if event.step == 2 else None

    bus.subscribe("step_end", delivery="gate", name="waits")(lambda event: bus.flush(20) and None)
    trainer = make_trainer(tmp_path, TransformersBridge(bus))
    trainer.train()
    (verdict,) = verdicts(events)
    assert (verdict.outcome, verdict.acted_at, trainer.state.global_step) == ("acted", 3, 3)


def vote_in_another_process(event: Event) -> Vote | None:
    return Vote("save", reason="from elsewhere") if event.step == 6 else None


def test_a_vote_from_another_process_comes_back_in_time_for_the_last_merge_point(
    tmp_path: Path,
) -> None:
    bus = EventBus()
    events = record(bus)
    bus.subscribe("step_end", delivery="process")(vote_in_another_process)
    make_trainer(tmp_path, TransformersBridge(bus)).train()
    (verdict,) = verdicts(events)
    assert (verdict.outcome, verdict.votes[0].reason) == ("acted", "from elsewhere")
    assert (tmp_path / "checkpoint-6").is_dir()


def test_a_vote_cast_before_training_waits_for_it_and_does_not_stop_the_next(
    tmp_path: Path,
) -> None:
    bus = EventBus()
    events = record(bus)
    trainer = make_trainer(tmp_path, TransformersBridge(bus))
    trainer.evaluate()
    bus.vote("stop", reason="enough", voter="me")
    trainer.evaluate()
    assert verdicts(events) == []
    trainer.train()
    assert trainer.state.global_step == 1
    trainer.train()
    assert trainer.state.global_step == 6
    (verdict,) = verdicts(events)
    assert (verdict.outcome, verdict.votes[0].voter) == ("acted", "me")


def test_all_that_is_asked_for_at_once_is_done_in_order(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    for action in ("stop", "save", "evaluate", "log"):
        bus.vote(action, reason="at once")
    make_trainer(tmp_path, TransformersBridge(bus), logging_strategy="no").train()
    at_one = [e.name for e in events if e.step == 1 and e.name in ("log", "evaluate", "save")]
    assert at_one[:1] == ["log"]
    assert [name for name in at_one if name != "log"] == ["evaluate", "save"]
    assert {v.action for v in verdicts(events)} == {"log", "evaluate", "save", "stop"}
    assert all(v.acted_at == 1 and v.outcome == "acted" for v in verdicts(events))


def test_a_vote_of_a_waiting_voter_of_the_last_step_is_heard_before_the_end(
    tmp_path: Path,
) -> None:
    bus = EventBus()
    events = record(bus)
    vote_once_at(bus, "step_end", "save", 6)
    make_trainer(tmp_path, TransformersBridge(bus)).train()
    (verdict,) = verdicts(events)
    assert (verdict.outcome, verdict.point, verdict.acted_at) == ("acted", "epoch_end", 6)
    assert (tmp_path / "checkpoint-6").is_dir()


def test_a_vote_after_everything_is_on_record_as_late(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    vote_once_at(bus, "train_end", "save", 0, delivery="gate")
    make_trainer(tmp_path, TransformersBridge(bus)).train()
    (verdict,) = verdicts(events)
    assert verdict.outcome == "late"


def test_a_save_is_not_lost_to_the_best_metric(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    vote_once_at(bus, "step_end", "save", 2, delivery="gate")
    make_trainer(
        tmp_path,
        TransformersBridge(bus),
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="best",
        metric_for_best_model="loss",
        greater_is_better=True,
    ).train()
    (verdict,) = verdicts(events)
    assert verdict.outcome == "acted"


def test_another_callback_that_clears_the_flag_does_not_lose_the_vote(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    vote_once_at(bus, "step_end", "save", 1, delivery="gate")

    class Clears(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_save = state.global_step >= 4 and control.should_save

    make_trainer(tmp_path, TransformersBridge(bus), Clears(), logging_strategy="no").train()
    (verdict,) = verdicts(events)
    assert (verdict.outcome, verdict.acted_at) == ("acted", 3)
    assert verdict.point == "step_end"


def test_a_veto_holds_off_a_vote_and_what_was_scheduled(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)

    @bus.subscribe("step_end", delivery="gate", name="guard")
    def guard(event: Event) -> Vote | None:
        return Vote("save", against=True, reason="disk") if event.step == 2 else None

    make_trainer(tmp_path, TransformersBridge(bus), save_strategy="steps", save_steps=1).train()
    (verdict,) = verdicts(events)
    assert (verdict.outcome, verdict.acted_at) == ("vetoed", 2)
    assert sorted(e.step for e in events if e.name == "save") == [1, 3, 4, 5, 6]


def test_an_evaluation_without_data_is_refused_and_the_training_goes_on(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    bus.vote("evaluate", reason="curious")
    trainer = make_trainer(tmp_path, TransformersBridge(bus))
    trainer.eval_dataset = None
    trainer.train()
    (verdict,) = verdicts(events)
    assert (verdict.outcome, verdict.detail) == ("refused", "the Trainer was given no eval_dataset")
    assert trainer.state.global_step == 6


def test_the_schedule_of_theirs_makes_no_verdicts(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    make_trainer(
        tmp_path, TransformersBridge(bus), eval_strategy="epoch", save_strategy="epoch"
    ).train()
    assert verdicts(events) == []
    assert [e.step for e in events if e.name == "save"] == [3, 6]
