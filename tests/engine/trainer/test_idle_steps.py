"""The schedule is not called at steps where nothing is due, and nobody can tell."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from stepbus import DefaultFlowCallback, Trainer, TrainerCallback

Make = Callable[..., Trainer]


def logged(trainer: Trainer) -> list[int]:
    return [row["step"] for row in trainer.state.log_history if "loss" in row]


def calls_of(trainer: Trainer) -> int:
    return next(row.handled for row in trainer.ledger if row.subscriber == "DefaultFlowCallback")


def test_it_is_called_where_something_is_due_alone(make_trainer: Make) -> None:
    trainer = make_trainer(logging_strategy="steps", logging_steps=5)
    trainer.train()
    assert logged(trainer) == [5, 10]
    assert calls_of(trainer) < 12


@pytest.mark.parametrize("what", ["state", "arguments"])
def test_intervals_that_change_in_mid_run_are_obeyed(make_trainer: Make, what: str) -> None:
    class Changes(Trainer):
        def training_step(self, *given: Any, **keywords: Any) -> Any:
            if self.state.global_step == 6:
                if what == "state":
                    self.state.logging_steps = 2
                else:
                    self.args.logging_strategy = "no"
            return super().training_step(*given, **keywords)

    trainer = make_trainer(trainer_class=Changes, logging_strategy="steps", logging_steps=5)
    trainer.train()
    assert logged(trainer) == ([5, 8, 10, 12] if what == "state" else [5])


def test_a_schedule_of_ones_own_is_called_at_every_step(make_trainer: Make) -> None:
    class Own(DefaultFlowCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> Any:
            control.should_log = state.global_step in (3, 4, 7)
            return super().on_step_end(args, state, control, **keywords)

    trainer = make_trainer()
    trainer.remove_callback(DefaultFlowCallback)
    trainer.add_callback(Own)
    trainer.train()
    assert logged(trainer) == [3, 4, 7]


def test_with_another_callback_at_step_ends_both_are_called_at_every_step(
    make_trainer: Make,
) -> None:
    class Counts(TrainerCallback):
        steps = 0

        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            self.steps += 1

    counts = Counts()
    trainer = make_trainer(given={"callbacks": [counts]})
    trainer.train()
    assert counts.steps == 12
    assert calls_of(trainer) >= 12


@pytest.mark.parametrize("logging_steps", [1, 4])
def test_logs_after_the_first_step_s_own_come_where_they_are_due(
    make_trainer: Make, logging_steps: int
) -> None:
    trainer = make_trainer(
        logging_strategy="steps", logging_first_step=True, logging_steps=logging_steps
    )
    trainer.train()
    assert logged(trainer) == [1, *range(2 if logging_steps == 1 else 4, 13, logging_steps)]


def test_a_log_alone_acts_with_the_votes_that_stand_in_one_round(make_trainer: Make) -> None:
    class Votes(Trainer):
        def training_step(self, *given: Any, **keywords: Any) -> Any:
            if self.state.global_step == 6:
                self.bus.vote("save", reason="now")
            return super().training_step(*given, **keywords)

    trainer = make_trainer(trainer_class=Votes, logging_strategy="steps", logging_steps=1)
    verdicts: list[Any] = []
    trainer.bus.subscribe("verdict")(verdicts.append)
    trainer.train()
    assert logged(trainer) == list(range(1, 13))
    (verdict,) = verdicts
    assert (verdict.action, verdict.outcome, verdict.acted_at) == ("save", "acted", 7)


def test_a_log_of_a_subclass_sees_the_flag_as_in_the_reference(make_trainer: Make) -> None:
    seen = []

    class Looks(Trainer):
        def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
            seen.append(self.control.should_log)
            super().log(logs, start_time)

    make_trainer(trainer_class=Looks, logging_strategy="steps", logging_steps=4).train()
    assert seen == [True, True, True, False]


def test_the_runtime_is_without_the_wait_for_subscribers(make_trainer: Make) -> None:
    trainer = make_trainer()
    never = threading.Event()
    trainer.bus.subscribe("step_end", after=11)(lambda event: never.wait(3.0) and None)
    assert trainer.train().metrics["train_runtime"] < 3.0
