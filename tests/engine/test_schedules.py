"""The schedules give the reference's numbers, step by step and through an optimizer."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stepbus import ArgumentError
from stepbus.engine.schedules import lr_lambda, make_scheduler


def reference(schedule: str, step: int, warmup: int, total: int) -> float:
    """The formulas of the reference's `get_scheduler`, written out as they stand there."""
    if schedule == "constant":
        return 1.0
    if schedule == "constant_with_warmup":
        return float(step) / float(max(1.0, warmup)) if step < warmup else 1.0
    if step < warmup:
        return float(step) / float(max(1, warmup))
    if schedule == "linear":
        return max(0.0, float(total - step) / float(max(1, total - warmup)))
    progress = float(step - warmup) / float(max(1, total - warmup))
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * 0.5 * 2.0 * progress)))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "constant_with_warmup"])
@given(total=st.integers(1, 5000), warmup=st.integers(0, 500), part=st.floats(0, 1))
def test_factor_is_that_of_the_reference(
    schedule: str, total: int, warmup: int, part: float
) -> None:
    warmup = min(warmup, total)
    step = round(part * total)
    expected = reference(schedule, step, warmup, total)
    assert lr_lambda(schedule, warmup, total)(step) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]),
        ("cosine", [0.0, 0.5, 1.0, 0.8535533905932737, 0.5, 0.14644660940672627, 0.0]),
        ("constant", [1.0] * 7),
        ("constant_with_warmup", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_learning_rates_of_a_run_of_six_steps(schedule: str, expected: list[float]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = make_scheduler(optimizer, schedule, 2, 6)
    rates = []
    for _ in range(7):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([2.0 * factor for factor in expected])


def test_a_scheduler_goes_on_from_its_state() -> None:
    def fresh() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return optimizer, make_scheduler(optimizer, "cosine", 3, 20)

    optimizer, scheduler = fresh()
    for _ in range(8):
        optimizer.step()
        scheduler.step()
    resumed_optimizer, resumed = fresh()
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    for one in (optimizer, resumed_optimizer):
        one.step()
    scheduler.step()
    resumed.step()
    assert resumed_optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_an_unknown_schedule_is_answered_with_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="'cosin': did you mean 'cosine'"):
        lr_lambda("cosin", 0, 10)


def test_a_schedule_of_a_later_version_is_refused() -> None:
    with pytest.raises(ArgumentError, match="no schedule 'polynomial'"):
        lr_lambda("polynomial", 0, 10)
