"""Beside the reference's `get_scheduler`: the same learning rates, to the bit, at every step."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepbus import SchedulerType
from stepbus.engine.schedules import get_scheduler

theirs: Any = import_module("transformers.optimization")


def rates(get: Any, name: Any, lr: float, warmup: Any, total: Any, arguments: Any) -> list[float]:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (lr, lr / 3)]
    optimizer = torch.optim.SGD(groups, lr=lr)
    scheduler = get(name, optimizer, warmup, total, arguments)
    seen = []
    for _ in range((total or 20) + 3):
        seen += [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()
    return seen


CASES: list[tuple[str, dict[str, Any] | None]] = [
    ("linear", None),
    ("cosine", None),
    ("cosine", {"num_cycles": 1.7}),
    ("cosine_with_restarts", {}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", None),
    ("polynomial", {"power": 2.5, "lr_end": 1e-5}),
    ("constant", None),
    ("constant_with_warmup", None),
    ("inverse_sqrt", None),
    ("inverse_sqrt", {"timescale": 7}),
    ("cosine_with_min_lr", {"min_lr": 1e-5}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1, "num_cycles": 0.8}),
    ("cosine_with_min_lr", {"min_lr_rate": 0}),
    ("cosine_warmup_with_min_lr", {"min_lr": 1e-5}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.05, "warmup_lr_rate": 0.2}),
    ("warmup_stable_decay", {"num_decay_steps": 4}),
    (
        "warmup_stable_decay",
        {
            "num_decay_steps": 9,
            "warmup_type": "cosine",
            "decay_type": "linear",
            "min_lr_ratio": 0.1,
        },
    ),
    (
        "warmup_stable_decay",
        {"num_decay_steps": 5, "warmup_type": "1-sqrt", "decay_type": "1-sqrt", "num_cycles": 1},
    ),
]


@pytest.mark.parametrize(("name", "arguments"), CASES)
@settings(max_examples=15, deadline=None)
@given(
    total=st.integers(1, 60),
    warmup=st.integers(0, 30),
    lr=st.floats(1e-4, 1.0),
)
def test_learning_rates_are_the_reference_s(
    name: str, arguments: dict[str, Any] | None, total: int, warmup: int, lr: float
) -> None:
    # At the very last step the reference divides by zero if all steps were warm-up.
    warmup = min(warmup, total - 1) if name == "polynomial" else warmup
    ours = rates(get_scheduler, name, lr, warmup, total, arguments)
    assert ours == rates(theirs.get_scheduler, name, lr, warmup, total, arguments)


@pytest.mark.parametrize(
    ("name", "warmup", "arguments"),
    [
        ("constant", None, None),
        ("constant_with_warmup", 5, None),
        ("inverse_sqrt", 5, None),
        ("inverse_sqrt", 0, None),
        ("warmup_stable_decay", 3, {"num_stable_steps": 5, "num_decay_steps": 6}),
    ],
)
def test_schedules_that_need_no_length_need_none_here(
    name: str, warmup: int | None, arguments: dict[str, Any] | None
) -> None:
    ours = rates(get_scheduler, name, 0.1, warmup, None, arguments)
    assert ours == rates(theirs.get_scheduler, name, 0.1, warmup, None, arguments)


def test_their_names_of_the_schedules_are_taken_as_they_are() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    for name in theirs.SchedulerType:
        if name.value in {known.value for known in SchedulerType}:
            arguments = {"min_lr": 0.1} if "min_lr" in name.value else None
            arguments = {"num_decay_steps": 1} if "stable" in name.value else arguments
            get_scheduler(name, optimizer, 1, 10, arguments)


@pytest.mark.parametrize("arguments", [None, {"patience": 1, "factor": 0.5, "min_lr": 0.01}])
def test_a_plateau_lowers_the_rate_as_there(arguments: dict[str, Any] | None) -> None:
    seen = []
    for get in (get_scheduler, theirs.get_scheduler):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler: Any = get("reduce_lr_on_plateau", optimizer, 0, 10, arguments)
        lowered = []
        for metric in (1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.5, 3.0, 3.0, 3.0):
            scheduler.step(metric)
            lowered.append(optimizer.param_groups[0]["lr"])
        seen.append(lowered)
    assert seen[0] == seen[1]


def test_a_schedule_goes_on_from_a_given_step() -> None:
    seen = []
    for get in (get_scheduler, theirs.get_scheduler):
        group = {"params": [torch.nn.Parameter(torch.zeros(1))], "initial_lr": 0.1}
        optimizer = torch.optim.SGD([group], lr=0.1)
        get("cosine", optimizer, 2, 20, {"last_epoch": 6})
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen[0] == seen[1] != 0.1
