"""Flags set by callbacks, in every hook for every action, where the reference honours them.

Where the reference loses a vote, or lets half a step leak, stepbus does not: those votes are in
test_differences.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tests.differential.case import Case, Outcome
from tests.differential.differences import NEUTRAL_LISTENERS
from tests.differential.grouping import each
from tests.differential.models import Regression
from tests.differential.voting import both, returning, voter

LOG, EVALUATE, SAVE = "should_log", "should_evaluate", "should_save"
STOP_EPOCH, STOP = "should_epoch_stop", "should_training_stop"
ACTIONS = (LOG, EVALUATE, SAVE)
STOPS = (STOP_EPOCH, STOP)

SCHEDULE: dict[str, Any] = {
    "num_train_epochs": 3,
    "gradient_accumulation_steps": 2,
    "logging_steps": 4,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_strategy": "steps",
    "save_steps": 4,
}
"""Three steps of two micro-batches an epoch; log, evaluation and checkpoint at 4, 8 and 9."""
UNSCHEDULED: dict[str, Any] = {
    "num_train_epochs": 3,
    "logging_strategy": "no",
}
IN_STEPS = ("step_begin", "substep_end", "pre_optimizer_step", "optimizer_step", "step_end")


def vote(hook: str, flag: str, call: int, arguments: dict[str, Any], quick: bool = False) -> Case:
    name = f"{flag} in on_{hook}, call {call}, accumulation "
    name += str(arguments.get("gradient_accumulation_steps", 1))
    case = Case(name, arguments, callbacks=voter(hook, flag, call), quick=quick)
    return neutral(case) if flag == EVALUATE else case


def neutral(case: Case) -> Case:
    """The case without random numbers, which an evaluation that is voted for may not move."""
    return dataclasses.replace(
        case,
        arguments={**case.arguments, "train_sampling_strategy": "sequential"},
        model=lambda: Regression(dropout=0.0),
        except_for=(NEUTRAL_LISTENERS,),
    )


KEPT = [
    *(vote(hook, flag, call, SCHEDULE) for hook in IN_STEPS for flag in ACTIONS for call in (1, 5)),
    # A vote for what the schedule does at that step anyway.
    *(vote(hook, flag, 4, SCHEDULE) for hook in IN_STEPS for flag in ACTIONS),
    *(vote("log", flag, 1, SCHEDULE) for flag in (EVALUATE, SAVE)),
    *(vote(hook, SAVE, 1, SCHEDULE) for hook in ("prediction_step", "evaluate")),
    *(vote("epoch_end", flag, 1, SCHEDULE, quick=flag == SAVE) for flag in ACTIONS),
    *(vote("epoch_end", flag, 3, SCHEDULE) for flag in ACTIONS),
]
IN_ROUNDS = [
    # Unscheduled logs and evaluations are what carries the vote on.
    Case(
        "a log votes for an evaluation, which votes for a save",
        UNSCHEDULED | {"eval_strategy": "no"},
        callbacks=both(
            voter("step_end", LOG, 3), voter("log", EVALUATE, 1), voter("evaluate", SAVE, 1)
        ),
        quick=True,
    ),
    Case(
        "every step votes for everything",
        UNSCHEDULED,
        callbacks=both(*(voter("step_end", flag, every=True) for flag in ACTIONS)),
    ),
    Case(
        "every begin of a step votes for everything",
        UNSCHEDULED | {"gradient_accumulation_steps": 2},
        callbacks=both(*(voter("step_begin", flag, every=True) for flag in ACTIONS)),
    ),
    Case(
        "every end of an epoch votes for everything",
        UNSCHEDULED,
        callbacks=both(*(voter("epoch_end", flag, every=True) for flag in ACTIONS)),
    ),
]
LEAVING = [
    *(
        vote(hook, flag, 2, SCHEDULE, quick=(hook, flag) == ("step_end", STOP))
        for hook in ("pre_optimizer_step", "optimizer_step", "step_end")
        for flag in STOPS
    ),
    *(vote("step_end", flag, 3, SCHEDULE) for flag in STOPS),
    *(vote(hook, flag, 2, UNSCHEDULED) for hook in ("step_begin", "step_end") for flag in STOPS),
    *(vote("epoch_begin", flag, 2, UNSCHEDULED) for flag in STOPS),
    vote("train_begin", STOP, 1, UNSCHEDULED),
    *(vote(hook, flag, 1, SCHEDULE) for hook in ("log", "evaluate", "save") for flag in STOPS),
    # In a step with an evaluation and a checkpoint.
    *(vote("step_end", flag, 4, SCHEDULE) for flag in STOPS),
    *(vote("log", flag, 1, {"logging_steps": 4}) for flag in STOPS),
    vote("prediction_step", STOP_EPOCH, 1, SCHEDULE),
    vote("epoch_end", STOP, 1, SCHEDULE),
    vote("epoch_end", STOP, 2, UNSCHEDULED),
    *(
        Case(
            f"{flag} with everything by the epoch",
            {
                "num_train_epochs": 3,
                "logging_strategy": "epoch",
                "eval_strategy": "epoch",
                "save_strategy": "epoch",
            },
            callbacks=voter("step_end", flag, 8),
        )
        for flag in STOPS
    ),
    Case(
        "an epoch stop in the first step of each epoch",
        UNSCHEDULED,
        callbacks=voter("step_end", STOP_EPOCH, every=True),
    ),
    Case(
        "an epoch stop in a run of steps",
        UNSCHEDULED | {"max_steps": 15},
        callbacks=voter("step_end", STOP_EPOCH, 4),
    ),
    Case(
        "a stop in the step that is the last",
        UNSCHEDULED | {"max_steps": 5},
        callbacks=voter("step_end", STOP, 5),
    ),
    Case(
        "a stop with a save",
        UNSCHEDULED,
        callbacks=both(voter("step_end", STOP, 5), voter("step_end", SAVE, 5)),
    ),
]
WITHOUT_EFFECT = [
    vote("epoch_end", STOP_EPOCH, 1, UNSCHEDULED),
    *(vote("train_end", flag, 1, UNSCHEDULED) for flag in (*ACTIONS, *STOPS)),
]
CLEARING = [
    *(
        Case(
            f"{flag} cleared once",
            SCHEDULE,
            callbacks=voter("step_end", flag, 4, value=False),
            quick=flag == SAVE,
        )
        for flag in ACTIONS
    ),
    *(
        Case(
            f"{flag} cleared always",
            SCHEDULE,
            callbacks=voter("step_end", flag, value=False, every=True),
        )
        for flag in ACTIONS
    ),
    Case(
        "the save cleared in the log before it",
        SCHEDULE,
        callbacks=voter("log", SAVE, value=False),
    ),
    Case(
        "the save cleared in the evaluation before it",
        SCHEDULE,
        callbacks=voter("evaluate", SAVE, value=False),
    ),
    Case(
        "the evaluation cleared in the log before it",
        SCHEDULE,
        callbacks=voter("log", EVALUATE, value=False),
    ),
    Case(
        "the end put off by a step",
        UNSCHEDULED | {"max_steps": 4},
        callbacks=voter("step_end", STOP, 4, value=False),
    ),
    Case(
        "the end put off to that of the epoch",
        UNSCHEDULED | {"max_steps": 4},
        callbacks=voter("step_end", STOP, value=False, every=True),
    ),
    Case(
        "a stop that is taken back",
        UNSCHEDULED,
        callbacks=both(voter("step_begin", STOP, 2), voter("step_end", STOP, 2, value=False)),
    ),
    Case(
        "a save that is taken back",
        UNSCHEDULED | {"gradient_accumulation_steps": 2},
        callbacks=both(voter("substep_end", SAVE, 2), voter("step_end", SAVE, 2, value=False)),
    ),
]
RETURNED = [
    Case("the control itself", SCHEDULE, callbacks=returning("step_end", 0)),
    Case("one that saves", SCHEDULE, callbacks=returning("step_end", 2, should_save=True)),
    Case("one that stops", SCHEDULE, callbacks=returning("step_end", 2, should_training_stop=True)),
    Case("one without the scheduled", SCHEDULE, callbacks=returning("step_end", 4)),
    Case("one in a log", SCHEDULE, callbacks=returning("log", 1, should_evaluate=True)),
    Case(
        "one and a vote after it",
        SCHEDULE,
        callbacks=both(returning("step_end", 2, should_log=True), voter("step_end", SAVE, 2)),
    ),
]


@each(KEPT)
def test_acted_on(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(IN_ROUNDS)
def test_votes_that_follow_each_other(check: Callable[[Case], Outcome], case: Case) -> None:
    check(neutral(case))


@each(LEAVING)
def test_stops(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(WITHOUT_EFFECT)
def test_without_effect(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(CLEARING)
def test_cleared(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(RETURNED)
def test_returned(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
