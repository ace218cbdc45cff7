"""How the learning rate moves: the reference's schedules, by the same formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..schemas import SchedulerType
from ..schemas.errors import ArgumentError, nearest
from ..schemas.strategies import SCHEDULES

Factor = Callable[[int], float]
"""The part of the highest learning rate to use after so many optimizer steps."""


def lr_lambda(schedule: str, num_warmup_steps: int, num_training_steps: int) -> Factor:
    """The factor of a schedule, as `LambdaLR` takes it.

    Raises:
        ArgumentError: there is no such schedule, or not in this version.
    """
    if schedule not in SCHEDULES:
        known = [known.value for known in SCHEDULES]
        raise ArgumentError(f"There is no schedule {schedule!r}: {nearest(schedule, known)}")
    after_warmup = _SHAPES[SchedulerType(schedule)]
    if schedule == SchedulerType.CONSTANT:
        num_warmup_steps = 0
    length = max(1, num_training_steps - num_warmup_steps)

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / max(1, num_warmup_steps)
        return after_warmup(
            (step - num_warmup_steps) / length, (num_training_steps - step) / length
        )

    return factor


def make_scheduler(
    optimizer: Optimizer, schedule: str, num_warmup_steps: int, num_training_steps: int
) -> LambdaLR:
    """The scheduler of a schedule: step it once after each optimizer step.

    Raises:
        ArgumentError: there is no such schedule, or not in this version.
    """
    return LambdaLR(optimizer, lr_lambda(schedule, num_warmup_steps, num_training_steps))


def _linear(done: float, left: float) -> float:
    return max(0.0, left)


def _cosine(done: float, left: float) -> float:
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))


def _constant(done: float, left: float) -> float:
    return 1.0


_SHAPES: dict[SchedulerType, Callable[[float, float], float]] = {
    SchedulerType.LINEAR: _linear,
    SchedulerType.COSINE: _cosine,
    SchedulerType.CONSTANT: _constant,
    SchedulerType.CONSTANT_WITH_WARMUP: _constant,
}
"""The factor by the parts of the steps after warm-up that are done and that are left."""
