"""Optimizers, schedules, clipping, weight decay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.differential.case import Case, Outcome
from tests.differential.data import texts
from tests.differential.grouping import each
from tests.differential.libraries import Library
from tests.differential.models import Frozen, Normalised, gpt2

OPTIMIZERS = [
    *(
        Case(f"{name} {options or ''}".strip(), {"optim": name, "optim_args": options})
        for name, options in (
            ("adamw_torch_fused", None),
            ("adamw_torch", None),
            ("sgd", None),
            ("sgd", "momentum=0.9,nesterov=True"),
            ("adagrad", None),
            ("adagrad", "lr_decay=0.1"),
            ("rmsprop", None),
            ("rmsprop", "momentum=0.5, alpha=0.9"),
        )
    ),
    Case("weight decay", {"weight_decay": 0.3}, quick=True),
    Case("weight decay, sgd", {"weight_decay": 0.3, "optim": "sgd"}),
    Case("weight decay, batch norm", {"weight_decay": 0.3}, Normalised),
    Case("weight decay, a frozen part", {"weight_decay": 0.3}, Frozen),
    Case("weight decay, GPT-2", {"weight_decay": 0.3}, gpt2, texts(12), texts(5, seed=1)),
    Case("betas and epsilon", {"adam_beta1": 0.8, "adam_beta2": 0.9, "adam_epsilon": 1e-4}),
    Case("no clipping", {"max_grad_norm": 0}),
    Case("hard clipping", {"max_grad_norm": 0.05, "gradient_accumulation_steps": 2}),
    Case("no learning", {"learning_rate": 0.0}),
]


def given_both(model: nn.Module) -> tuple[Any, Any]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    return optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=3)


def given_optimizer(model: nn.Module) -> tuple[Any, Any]:
    groups: list[dict[str, Any]] = [
        {"params": list(model.parameters())[:2], "lr": 0.5},
        {"params": list(model.parameters())[2:]},
    ]
    return torch.optim.SGD(groups, lr=0.1), None


def given_plateau(model: nn.Module) -> tuple[Any, Any]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    return optimizer, torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)


def by_class(library: Library) -> dict[str, Any]:
    return {"optimizer_cls_and_kwargs": (torch.optim.NAdam, {"lr": 0.05, "momentum_decay": 0.1})}


GIVEN = [
    Case("optimizer and schedule", optimizers=given_both, quick=True),
    Case("optimizer alone", optimizers=given_optimizer),
    Case("optimizer alone, cosine", {"lr_scheduler_type": "cosine"}, optimizers=given_optimizer),
    Case(
        "optimizer and plateau",
        {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss"},
        optimizers=given_plateau,
    ),
    Case("class and arguments", trainer=by_class),
    Case("class and arguments, weight decay", {"weight_decay": 0.2}, trainer=by_class),
]

KEYWORDS: dict[str, tuple[dict[str, Any], ...]] = {
    "linear": ({},),
    "cosine": ({}, {"num_cycles": 1.5}),
    "cosine_with_restarts": ({}, {"num_cycles": 3}),
    "polynomial": ({}, {"power": 2.0, "lr_end": 1e-4}),
    "constant": ({},),
    "constant_with_warmup": ({},),
    "inverse_sqrt": ({}, {"timescale": 5}),
    "cosine_with_min_lr": ({"min_lr": 1e-3}, {"min_lr_rate": 0.2}),
    "cosine_warmup_with_min_lr": ({"min_lr_rate": 0.1}, {"min_lr": 1e-3, "warmup_lr_rate": 0.3}),
    "warmup_stable_decay": (
        {"num_decay_steps": 4},
        {"num_decay_steps": 3, "min_lr_ratio": 0.1, "decay_type": "cosine"},
    ),
}
SCHEDULES = [
    *(
        Case(
            f"{name} {keywords or ''}, warm-up {warmup}",
            {
                "lr_scheduler_type": name,
                "lr_scheduler_kwargs": keywords,
                "warmup_steps": warmup,
            },
            quick=name == "cosine" and warmup == 0.3 and not keywords,
        )
        for name, variants in KEYWORDS.items()
        for keywords in variants
        for warmup in (0, 3, 0.3)
    ),
    *(
        Case(
            f"reduce_lr_on_plateau, warm-up {warmup}",
            {
                "lr_scheduler_type": "reduce_lr_on_plateau",
                "lr_scheduler_kwargs": {"patience": 0, "factor": 0.3},
                "warmup_steps": warmup,
                "learning_rate": 0.7,
                "eval_strategy": "steps",
                "eval_steps": 2,
                "metric_for_best_model": "loss",
            },
        )
        for warmup in (0, 3)
    ),
    Case(
        "reduce_lr_on_plateau, on start",
        {
            "lr_scheduler_type": "reduce_lr_on_plateau",
            "lr_scheduler_kwargs": {"patience": 0, "factor": 0.3},
            "learning_rate": 0.7,
            "eval_strategy": "epoch",
            "eval_on_start": True,
            "metric_for_best_model": "loss",
            "load_best_model_at_end": True,
            "save_strategy": "epoch",
            "num_train_epochs": 4,
        },
    ),
    Case("linear, accumulation 4", {"gradient_accumulation_steps": 4, "warmup_steps": 2}),
    Case("linear, fraction of an epoch", {"num_train_epochs": 1.5, "warmup_steps": 0.1}),
    Case("linear, warm-up longer than the run", {"max_steps": 4, "warmup_steps": 10}),
]


@each(OPTIMIZERS)
def test_optimizers(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(GIVEN)
def test_given_optimizers(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(SCHEDULES)
def test_schedules(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
