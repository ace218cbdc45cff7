"""When a run logs, evaluates and saves."""

from __future__ import annotations

from collections.abc import Callable

from tests.differential.case import Case, Outcome
from tests.differential.data import sets
from tests.differential.grouping import each
from tests.differential.models import Infinite

STRATEGIES = ("no", "steps", "epoch")

LOGGING = [
    Case("logs: no", {"logging_strategy": "no"}),
    Case("logs: no, first step", {"logging_strategy": "no", "logging_first_step": True}),
    Case("logs: epoch", {"logging_strategy": "epoch"}),
    Case("logs: epoch, first step", {"logging_strategy": "epoch", "logging_first_step": True}),
    Case("logs: 5", {"logging_steps": 5}),
    Case("logs: 5, first step", {"logging_steps": 5, "logging_first_step": True}, quick=True),
    Case("logs: 5, accumulation 2", {"logging_steps": 5, "gradient_accumulation_steps": 2}),
    Case("logs: a third", {"logging_steps": 0.3}),
    Case("logs: never reached", {"logging_steps": 500}),
    Case("logs: last step of an epoch", {"logging_steps": 6}),
]

EVALUATING = [
    Case("evaluates: epoch", {"eval_strategy": "epoch"}),
    Case("evaluates: as often as it logs", {"eval_strategy": "steps", "logging_steps": 5}),
    Case("evaluates: 4", {"eval_strategy": "steps", "eval_steps": 4}, quick=True),
    Case("evaluates: 12, the last step", {"eval_strategy": "steps", "eval_steps": 12}),
    Case("evaluates: never reached", {"eval_strategy": "steps", "eval_steps": 500}),
    Case("evaluates: a quarter", {"eval_strategy": "steps", "eval_steps": 0.25}),
    Case(
        "evaluates: after 6 steps",
        {"eval_strategy": "steps", "eval_steps": 2, "eval_delay": 6},
    ),
    Case(
        "evaluates: after 7 steps, never reached later",
        {"eval_strategy": "steps", "eval_steps": 5, "eval_delay": 20},
    ),
    Case(
        "evaluates: after 2 epochs",
        {"eval_strategy": "epoch", "eval_delay": 2, "num_train_epochs": 3},
    ),
    Case(
        "evaluates: after 1.5 epochs",
        {"eval_strategy": "epoch", "eval_delay": 1.5, "num_train_epochs": 3},
    ),
    Case("evaluates: on start", {"eval_strategy": "epoch", "eval_on_start": True}, quick=True),
    Case(
        "evaluates: on start, with a delay",
        {"eval_strategy": "steps", "eval_steps": 3, "eval_delay": 5, "eval_on_start": True},
    ),
    Case(
        "evaluates: two sets",
        {"eval_strategy": "steps", "eval_steps": 5},
        eval=sets(first=10, second=5),
        quick=True,
    ),
    Case(
        "evaluates: two sets on start and at each epoch",
        {"eval_strategy": "epoch", "eval_on_start": True},
        eval=sets(first=3, second=9),
    ),
    Case("do_eval alone", {"do_eval": True}),
    Case(
        "evaluates: without logs",
        {"eval_strategy": "steps", "eval_steps": 4, "logging_strategy": "no"},
    ),
    Case(
        "evaluates: accumulation 4",
        {"eval_strategy": "steps", "eval_steps": 1, "gradient_accumulation_steps": 4},
    ),
    Case(
        "evaluates: infinite loss in a batch",
        {"eval_strategy": "epoch", "logging_nan_inf_filter": False},
        lambda: Infinite((2,), in_training=False),
    ),
    Case(
        "evaluates: infinite loss in all batches",
        {"eval_strategy": "epoch"},
        lambda: Infinite((1, 2, 3, 4, 5, 6), in_training=False),
    ),
]

SAVING = [
    Case("saves: epoch", {"save_strategy": "epoch"}),
    Case("saves: 4", {"save_strategy": "steps", "save_steps": 4}),
    Case("saves: 12, the last step", {"save_strategy": "steps", "save_steps": 12}),
    Case("saves: never reached", {"save_strategy": "steps", "save_steps": 500}),
    Case("saves: a third", {"save_strategy": "steps", "save_steps": 0.3}),
    Case("saves: 2 of 5", {"save_strategy": "steps", "save_steps": 5, "save_total_limit": 2}),
    Case("saves: 1 of 6", {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}),
    Case("saves: weights alone", {"save_strategy": "epoch", "save_only_model": True}),
    Case(
        "saves: accumulation 4",
        {"save_strategy": "steps", "save_steps": 1, "gradient_accumulation_steps": 4},
    ),
    Case("saves: default", {"save_strategy": "steps"}, quick=True),
    Case(
        "saves: epoch, max_steps in the middle of one",
        {"save_strategy": "epoch", "max_steps": 8},
    ),
]

TOGETHER = [
    Case(
        f"logs: {logs}, evaluates: {evaluates}, saves: {saves}",
        {
            "logging_strategy": logs,
            "logging_steps": 3,
            "eval_strategy": evaluates,
            "eval_steps": 4,
            "save_strategy": saves,
            "save_steps": 5,
        },
    )
    for logs in STRATEGIES
    for evaluates in STRATEGIES
    for saves in STRATEGIES
]


@each(LOGGING)
def test_logging(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(EVALUATING)
def test_evaluating(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(SAVING)
def test_saving(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(TOGETHER)
def test_together(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
