"""How the learning rate moves: the reference's schedules by name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from ..schemas import SchedulerType
from ..schemas.errors import ArgumentError, nearest
from .schedule_factors import FACTORS, Course, Factor

_WITHOUT_WARMUP = frozenset({SchedulerType.CONSTANT, SchedulerType.REDUCE_ON_PLATEAU})
_WITHOUT_TOTAL = _WITHOUT_WARMUP | {
    SchedulerType.CONSTANT_WITH_WARMUP,
    SchedulerType.INVERSE_SQRT,
    SchedulerType.WARMUP_STABLE_DECAY,
}
_BY_STEPS_ALONE = frozenset(FACTORS) - {
    SchedulerType.POLYNOMIAL,
    SchedulerType.COSINE_WITH_MIN_LR,
    SchedulerType.COSINE_WARMUP_WITH_MIN_LR,
    SchedulerType.WARMUP_STABLE_DECAY,
}


def get_scheduler(
    name: SchedulerType | str,
    optimizer: Optimizer,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> LRScheduler:
    """The scheduler of a schedule, to step once after each optimizer step.

    Args:
        name: of the schedule; `reduce_lr_on_plateau` is stepped with a metric, after evaluations.
        optimizer: whose learning rate moves.
        num_warmup_steps: optimizer steps over which the learning rate rises.
        num_training_steps: optimizer steps of the run.
        scheduler_specific_kwargs: what the schedule takes besides, such as `num_cycles`.

    Raises:
        ArgumentError: there is no such schedule, it takes no such argument, or one that it needs
            is missing.
    """
    schedule = _schedule(name)
    given = dict(scheduler_specific_kwargs or {})
    if schedule == SchedulerType.REDUCE_ON_PLATEAU:
        _check_taken(schedule, given, ReduceLROnPlateau)
        return ReduceLROnPlateau(optimizer, **given)
    last_epoch = given.pop("last_epoch", -1)
    build = FACTORS[schedule]
    _check_taken(schedule, given, build)
    course = Course(
        0 if num_warmup_steps is None else num_warmup_steps,
        math.nan if num_training_steps is None else num_training_steps,
        optimizer.defaults["lr"],
    )
    if num_warmup_steps is None and schedule not in _WITHOUT_WARMUP:
        raise ArgumentError(f"The schedule {schedule.value} needs num_warmup_steps: give it.")
    if num_training_steps is None and schedule not in _WITHOUT_TOTAL:
        raise ArgumentError(f"The schedule {schedule.value} needs num_training_steps: give it.")
    return LambdaLR(optimizer, build(course, **given), last_epoch)


def lr_lambda(schedule: str, num_warmup_steps: int, num_training_steps: int) -> Factor:
    """The factor of a schedule, as `LambdaLR` takes it.

    Raises:
        ArgumentError: there is no such schedule, or steps alone do not tell its factor.
    """
    known = _schedule(schedule)
    if known not in _BY_STEPS_ALONE:
        raise ArgumentError(
            f"Steps alone do not tell the factor of {known.value}: use get_scheduler."
        )
    return FACTORS[known](Course(num_warmup_steps, num_training_steps, math.nan))


def make_scheduler(
    optimizer: Optimizer, schedule: str, num_warmup_steps: int, num_training_steps: int
) -> LambdaLR:
    """The scheduler of a schedule that goes by steps: step it once after each optimizer step.

    Raises:
        ArgumentError: there is no such schedule, it goes by a metric, or it needs arguments of
            its own.
    """
    scheduler = get_scheduler(schedule, optimizer, num_warmup_steps, num_training_steps)
    if not isinstance(scheduler, LambdaLR):
        raise ArgumentError(f"The schedule {schedule} goes by a metric: choose one by steps.")
    return scheduler


def _schedule(name: str) -> SchedulerType:
    try:
        return SchedulerType(name)
    except ValueError:
        text = str(getattr(name, "value", name))
        known = [known.value for known in SchedulerType]
        raise ArgumentError(f"There is no schedule {text!r}: {nearest(text, known)}") from None


def _check_taken(
    schedule: SchedulerType, given: Mapping[str, Any], build: Callable[..., Any]
) -> None:
    # The first is what it builds upon.
    parameters = list(inspect.signature(build).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    takes = f"it takes {', '.join(names)}." if names else "it takes none."
    surplus = ", ".join(repr(name) for name in given if name not in names)
    if surplus:
        raise ArgumentError(f"The schedule {schedule.value} takes no argument {surplus}: {takes}")
    missing = ", ".join(
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.name not in given
    )
    if missing:
        raise ArgumentError(f"The schedule {schedule.value} needs {missing}: {takes}")
