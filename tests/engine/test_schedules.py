"""The schedules give the reference's numbers, step by step and through an optimizer."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stepbus import ArgumentError
from stepbus.engine.schedules import get_scheduler, lr_lambda, make_scheduler


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


@pytest.mark.parametrize("schedule", ["polynomial", "warmup_stable_decay", "cosine_with_min_lr"])
def test_a_factor_that_steps_alone_do_not_tell_is_refused(schedule: str) -> None:
    with pytest.raises(ArgumentError, match=f"factor of {schedule}: use get_scheduler"):
        lr_lambda(schedule, 0, 10)


def optimizer_at(lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def test_a_schedule_that_goes_by_a_metric_is_no_schedule_by_steps() -> None:
    with pytest.raises(ArgumentError, match="reduce_lr_on_plateau goes by a metric"):
        make_scheduler(optimizer_at(1.0), "reduce_lr_on_plateau", 0, 10)


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        ("cosine", {"cycles": 2}, "cosine takes no argument 'cycles': it takes num_cycles."),
        ("constant", {"power": 2}, "constant takes no argument 'power': it takes none."),
        (
            "reduce_lr_on_plateau",
            {"speed": 1},
            "reduce_lr_on_plateau takes no argument 'speed': it takes mode, factor, patience",
        ),
        ("warmup_stable_decay", {}, "warmup_stable_decay needs num_decay_steps: it takes num_dec"),
        (
            "warmup_stable_decay",
            {"num_decay_steps": 2, "decay_type": "steep"},
            "decay_type is 'steep': give one of linear, cosine, 1-sqrt",
        ),
        ("cosine_with_min_lr", {}, "either min_lr, the least learning rate, or min_lr_rate"),
        ("cosine_with_min_lr", {"min_lr": 0.1, "min_lr_rate": 0.1}, "min_lr=0.1 and min_lr_rate="),
        ("polynomial", {"lr_end": 2.0}, "lr_end, which is 2.0, and starts at 1.0"),
    ],
)
def test_wrong_arguments_of_a_schedule_are_answered_with_those_it_takes(
    schedule: str, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ArgumentError) as error:
        get_scheduler(schedule, optimizer_at(1.0), 2, 10, arguments)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("schedule", "warmup", "missing"),
    [("linear", None, "num_warmup_steps"), ("linear", 1, "num_training_steps")],
)
def test_a_schedule_says_which_number_of_steps_it_needs(
    schedule: str, warmup: int | None, missing: str
) -> None:
    with pytest.raises(ArgumentError, match=f"schedule {schedule} needs {missing}: give it"):
        get_scheduler(schedule, optimizer_at(1.0), warmup)


def test_an_unknown_scheduler_is_answered_with_the_nearest() -> None:
    with pytest.raises(ArgumentError, match="no schedule 'cosines': did you mean 'cosine'"):
        get_scheduler("cosines", optimizer_at(1.0), 0, 10)


def test_stable_steps_that_leave_a_rest_of_the_run_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    arguments = {"num_stable_steps": 3, "num_decay_steps": 2}
    get_scheduler("warmup_stable_decay", optimizer_at(1.0), 1, 6, arguments)
    assert not caplog.messages
    get_scheduler("warmup_stable_decay", optimizer_at(1.0), 1, 7, arguments)
    assert "the rest of it gets min_lr_ratio" in caplog.messages[0]
