"""Subclasses of the Trainer that override what people override."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.differential.case import Case, Outcome
from tests.differential.grouping import each
from tests.differential.models import LossKeywords, Regression
from tests.differential.other_subclasses import (
    no_decay,
    own_both,
    own_evaluation,
    own_loaders,
    own_loop,
    own_optimizer,
    own_prediction,
    own_sampler,
    own_save,
    own_schedule,
    shuffled_loader,
    whole_evaluation,
)
from tests.differential.training_subclasses import (
    logging_less,
    logging_own,
    own_loss,
    own_loss_of_items,
    own_step,
    scaled,
    whole_step,
)

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2}
GROUPS: dict[str, Any] = {"gradient_accumulation_steps": 4}


def absolute(prediction: Any) -> dict[str, Any]:
    return {"absolute": float(abs(prediction.predictions).sum())}


CASES = [
    Case("compute_loss", EVALUATED, subclass=own_loss),
    Case("compute_loss, accumulation 4", EVALUATED | GROUPS, subclass=own_loss, quick=True),
    Case("compute_loss, keywords", EVALUATED | GROUPS, LossKeywords, subclass=own_loss),
    *(
        Case(
            f"compute_loss, {kind.__name__}, scaled: {value}",
            EVALUATED | GROUPS,
            kind,
            subclass=scaled(value, own_loss),
        )
        for value in (True, False)
        for kind in (Regression, LossKeywords)
    ),
    Case("compute_loss of items", EVALUATED | GROUPS, subclass=own_loss_of_items),
    Case(
        "compute_loss of items, keywords",
        EVALUATED | GROUPS,
        LossKeywords,
        subclass=own_loss_of_items,
        quick=True,
    ),
    *(
        Case(
            f"compute_loss of items, scaled: {value}",
            GROUPS,
            LossKeywords,
            subclass=scaled(value, own_loss_of_items),
        )
        for value in (True, False)
    ),
    Case("log", EVALUATED | {"logging_steps": 3}, subclass=logging_own, quick=True),
    Case("log less", EVALUATED, subclass=logging_less),
    Case("training_step", EVALUATED | GROUPS, subclass=own_step),
    Case("training_step, whole", EVALUATED | GROUPS, subclass=whole_step),
    Case("loaders", EVALUATED, subclass=own_loaders),
    Case("loader without a generator", EVALUATED, subclass=shuffled_loader),
    Case("samplers", EVALUATED, subclass=own_sampler),
    Case("create_optimizer", EVALUATED, subclass=own_optimizer),
    Case("create_scheduler", EVALUATED, subclass=own_schedule),
    Case("both", EVALUATED, subclass=own_both),
    Case("get_decay_parameter_names", {"weight_decay": 0.5}, subclass=no_decay),
    Case("evaluate", EVALUATED, subclass=own_evaluation),
    Case(
        "evaluate, best by its figure",
        EVALUATED | {"metric_for_best_model": "double", "save_strategy": "best"},
        subclass=own_evaluation,
    ),
    Case("evaluate, whole", EVALUATED, subclass=whole_evaluation),
    Case(
        "prediction_step",
        EVALUATED,
        subclass=own_prediction,
        trainer=lambda library: {"compute_metrics": absolute},
    ),
    Case("evaluation_loop", EVALUATED, subclass=own_loop),
    Case("_save", {"save_strategy": "epoch"}, subclass=own_save),
]


@each(CASES)
def test_overrides(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
