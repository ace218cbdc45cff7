"""Callbacks that change what they are given: logs, metrics, the model, the optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.differential.case import Case, Outcome
from tests.differential.grouping import each
from tests.differential.libraries import Library
from tests.differential.models import Normalised
from tests.differential.voting import Callbacks

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4}


def doing(**hooks: Callable[..., None]) -> Callbacks:
    """A callback with functions of (state, keywords) for its hooks."""

    def method(function: Callable[..., None]) -> Any:
        def call(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            function(state, keywords)

        return call

    def make(library: Library) -> list[Any]:
        methods = {f"on_{name}": method(function) for name, function in hooks.items()}
        return [type("Doing", (library.TrainerCallback,), methods)()]

    return make


def as_class(library: Library) -> list[Any]:
    """A callback given as a class."""
    return [library.TrainerCallback]


def add_to_logs(state: Any, keywords: dict[str, Any]) -> None:
    keywords["logs"]["added"] = state.global_step
    keywords["logs"].pop("grad_norm", None)


def add_to_metrics(state: Any, keywords: dict[str, Any]) -> None:
    keywords["metrics"]["eval_mine"] = abs(state.global_step - 7)


def halve_rate(state: Any, keywords: dict[str, Any]) -> None:
    if state.global_step == 3:
        for group in keywords["optimizer"].param_groups:
            group["lr"] *= 0.5


def shrink(state: Any, keywords: dict[str, Any]) -> None:
    for parameter in keywords["model"].parameters():
        parameter.data.mul_(0.9)


def scale_gradients(state: Any, keywords: dict[str, Any]) -> None:
    for parameter in keywords["model"].parameters():
        parameter.grad.mul_(0.1)


def freeze_statistics(state: Any, keywords: dict[str, Any]) -> None:
    keywords["model"].norm.eval()


def freeze(state: Any, keywords: dict[str, Any]) -> None:
    if state.global_step == 4:
        keywords["model"].hidden.requires_grad_(False)


def lengthen(state: Any, keywords: dict[str, Any]) -> None:
    if state.global_step == 2:
        state.max_steps = 5


def more_often(state: Any, keywords: dict[str, Any]) -> None:
    if state.global_step == 4:
        state.logging_steps = 2
        state.eval_steps = 1


CASES = [
    Case("as a class", callbacks=as_class),
    Case("logs changed", EVALUATED, callbacks=doing(log=add_to_logs)),
    Case("metrics changed", EVALUATED, callbacks=doing(evaluate=add_to_metrics)),
    Case(
        "metrics changed, best by them",
        EVALUATED
        | {
            "metric_for_best_model": "mine",
            "greater_is_better": False,
            "save_strategy": "best",
            "load_best_model_at_end": True,
        },
        callbacks=doing(evaluate=add_to_metrics),
    ),
    Case("rate changed", {"lr_scheduler_type": "constant"}, callbacks=doing(step_begin=halve_rate)),
    Case("rate changed, schedule", callbacks=doing(step_end=halve_rate)),
    Case("weights changed", EVALUATED, callbacks=doing(epoch_begin=shrink, step_end=shrink)),
    Case("weights changed in an evaluation", EVALUATED, callbacks=doing(prediction_step=shrink)),
    Case("weights changed in a save", {"save_strategy": "epoch"}, callbacks=doing(save=shrink)),
    Case(
        "gradients changed",
        {"gradient_accumulation_steps": 2},
        callbacks=doing(pre_optimizer_step=scale_gradients),
    ),
    Case(
        "statistics frozen at each step",
        {},
        Normalised,
        callbacks=doing(step_begin=freeze_statistics),
    ),
    Case("statistics frozen once", {}, Normalised, callbacks=doing(train_begin=freeze_statistics)),
    Case("a part frozen on the way", callbacks=doing(step_end=freeze)),
    Case("max_steps changed", callbacks=doing(step_end=lengthen)),
    Case(
        "intervals changed",
        EVALUATED | {"logging_steps": 4},
        callbacks=doing(step_begin=more_often),
    ),
]


@each(CASES)
def test_changes(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
