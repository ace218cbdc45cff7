"""The shape of each schedule: the reference's formulas, operation by operation, so to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from ..bus.diagnostics import get_logger
from ..schemas import SchedulerType
from ..schemas.errors import ArgumentError

log = get_logger()

Factor = Callable[[int], float]
"""The part of the highest learning rate to use after so many optimizer steps."""


class Course(NamedTuple):
    """What a schedule runs over."""

    warmup: float
    """Optimizer steps over which the learning rate rises."""
    total: float
    """Optimizer steps of the run; NaN where it was not told."""
    peak: float
    """Highest learning rate."""

    @property
    def after_warmup(self) -> float:
        """Steps left after warm-up, at least 1."""
        return max(1, self.total - self.warmup)


def _warmed_up(course: Course, after: Factor) -> Factor:
    def factor(step: int) -> float:
        if step < course.warmup:
            return step / max(1, course.warmup)
        return after(step)

    return factor


def _wave(cycles: float, progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * float(cycles) * 2.0 * progress))


def _lifted(factor: float, least: float) -> float:
    return factor * (1 - least) + least


def constant(course: Course) -> Factor:
    """The highest learning rate throughout."""
    return lambda step: 1.0


def constant_with_warmup(course: Course) -> Factor:
    """The highest learning rate after a rise."""
    return _warmed_up(course, lambda step: 1.0)


def linear(course: Course) -> Factor:
    """A straight line down to 0."""
    length = course.after_warmup
    return _warmed_up(course, lambda step: max(0.0, (course.total - step) / length))


def cosine(course: Course, *, num_cycles: float = 0.5) -> Factor:
    """A cosine down to 0; half a wave unless told otherwise."""
    length = course.after_warmup
    return _warmed_up(
        course, lambda step: max(0.0, _wave(num_cycles, (step - course.warmup) / length))
    )


def cosine_with_restarts(course: Course, *, num_cycles: float = 1) -> Factor:
    """Half a cosine down to 0, as often as told, each from the top."""
    length = course.after_warmup

    def after(step: int) -> float:
        progress = (step - course.warmup) / length
        if progress >= 1.0:
            return 0.0
        within = (float(num_cycles) * progress) % 1.0
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * within)))

    return _warmed_up(course, after)


def polynomial(course: Course, *, lr_end: float = 1e-7, power: float = 1.0) -> Factor:
    """A polynomial down to `lr_end`."""
    peak, decay_steps = course.peak, course.total - course.warmup
    if not peak > lr_end:
        raise ArgumentError(
            f"polynomial goes down to lr_end, which is {lr_end}, and starts at {peak}: give a "
            "smaller lr_end or a larger learning rate."
        )

    def after(step: int) -> float:
        if step > course.total or decay_steps <= 0:
            return lr_end / peak
        left = 1 - (step - course.warmup) / decay_steps
        decayed: float = (peak - lr_end) * left**power + lr_end
        return decayed / peak

    return _warmed_up(course, after)


def inverse_sqrt(course: Course, *, timescale: float | None = None) -> Factor:
    """The inverse square root of the steps, counted in `timescale` (warm-up steps, or 10,000)."""
    scale = (course.warmup or 10_000) if timescale is None else timescale
    shift = scale - course.warmup
    return _warmed_up(course, lambda step: 1.0 / math.sqrt((step + shift) / scale))


def cosine_with_min_lr(
    course: Course,
    *,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> Factor:
    """A cosine down to a least learning rate, or to that part of the highest."""
    length, least = course.after_warmup, _least(course, min_lr, min_lr_rate)
    return _warmed_up(
        course,
        lambda step: max(0, _lifted(_wave(num_cycles, (step - course.warmup) / length), least)),
    )


def cosine_warmup_with_min_lr(
    course: Course,
    *,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> Factor:
    """As `cosine_with_min_lr`, from a first learning rate above 0, each value one step earlier."""
    warmup, length, least = course.warmup, course.after_warmup, _least(course, min_lr, min_lr_rate)

    def factor(step: int) -> float:
        if step >= warmup:
            return max(0, _lifted(_wave(num_cycles, (step - warmup + 1.0) / length), least))
        if warmup_lr_rate is None:
            return (step + 1.0) / max(1.0, warmup)
        first = float(warmup_lr_rate)
        return first + (1.0 - first) * step / max(1, warmup - 1)

    return factor


def _least(course: Course, min_lr: float | None, min_lr_rate: float | None) -> float:
    if (min_lr is None) == (min_lr_rate is None):
        raise ArgumentError(
            "This schedule needs either min_lr, the least learning rate, or min_lr_rate, its part "
            f"of the highest; got min_lr={min_lr} and min_lr_rate={min_lr_rate}."
        )
    return min_lr / course.peak if min_lr is not None else float(min_lr_rate or 0.0)


_RISES: dict[str, Callable[[float], float]] = {
    "linear": lambda progress: progress,
    "cosine": lambda progress: 0.5 * (1.0 - math.cos(math.pi * progress)),
    "1-sqrt": lambda progress: 1.0 - math.sqrt(1.0 - progress),
}
_FALLS: dict[str, Callable[[float, float], float]] = {
    "linear": lambda progress, cycles: 1.0 - progress,
    "cosine": lambda progress, cycles: _wave(cycles, progress),
    "1-sqrt": lambda progress, cycles: 1.0 - math.sqrt(progress),
}


def warmup_stable_decay(
    course: Course,
    *,
    num_decay_steps: float,
    num_stable_steps: float | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0,
    num_cycles: float = 0.5,
) -> Factor:
    """A rise, a plateau, a fall to that part of the highest learning rate."""
    for name, kind in (("warmup_type", warmup_type), ("decay_type", decay_type)):
        if kind not in _RISES:
            raise ArgumentError(f"{name} is {kind!r}: give one of {', '.join(_RISES)}.")
    rise, fall = _RISES[warmup_type], _FALLS[decay_type]
    warmup, stable = course.warmup, _stable_steps(course, num_stable_steps, num_decay_steps)

    def factor(step: int) -> float:
        if warmup <= step < warmup + stable:
            return 1.0
        if step < warmup:
            part = rise(step / max(1, warmup))
        elif step < warmup + stable + num_decay_steps:
            part = fall((step - warmup - stable) / max(1, num_decay_steps), num_cycles)
        else:
            return min_lr_ratio
        return max(0.0, part * (1.0 - min_lr_ratio) + min_lr_ratio)

    return factor


def _stable_steps(course: Course, stable: float | None, decay: float) -> float:
    if stable is None:
        if math.isnan(course.total):
            raise ArgumentError(
                "warmup_stable_decay needs num_training_steps or num_stable_steps: give one."
            )
        return course.total - course.warmup - decay
    planned = course.warmup + stable + decay
    if planned < course.total:
        log.warning(
            f"warmup_stable_decay: {course.warmup} steps of warm-up, {stable} stable and {decay} "
            f"of decay are {planned}, and the run has {course.total}: the rest of it gets "
            "min_lr_ratio."
        )
    return stable


FACTORS: dict[SchedulerType, Callable[..., Factor]] = {
    SchedulerType.LINEAR: linear,
    SchedulerType.COSINE: cosine,
    SchedulerType.COSINE_WITH_RESTARTS: cosine_with_restarts,
    SchedulerType.POLYNOMIAL: polynomial,
    SchedulerType.CONSTANT: constant,
    SchedulerType.CONSTANT_WITH_WARMUP: constant_with_warmup,
    SchedulerType.INVERSE_SQRT: inverse_sqrt,
    SchedulerType.COSINE_WITH_MIN_LR: cosine_with_min_lr,
    SchedulerType.COSINE_WARMUP_WITH_MIN_LR: cosine_warmup_with_min_lr,
    SchedulerType.WARMUP_STABLE_DECAY: warmup_stable_decay,
}
"""What builds the factor of a schedule; its keyword-only arguments are those of the schedule."""
