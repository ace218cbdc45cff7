"""The training arguments that take one word, or some words, out of a few."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from .errors import nearest
from .strategies import (
    SCHEDULES,
    HubStrategy,
    IntervalStrategy,
    OptimizerNames,
    SaveStrategy,
    SchedulerType,
)


def _word(value: Any) -> Any:
    """The text of an enum's member, the reference's own enums among them."""
    return value.value if isinstance(value, Enum) else value


def _refused_choice(allowed: list[str]) -> PydanticCustomError:
    return PydanticCustomError(
        "choice",
        "Input should be one of {allowed}",
        {"allowed": ", ".join(map(repr, allowed))},
    )


def _choice(choices: type[StrEnum]) -> Callable[[Any], StrEnum]:
    def choose(value: Any) -> StrEnum:
        try:
            return choices(_word(value))
        except ValueError:
            raise _refused_choice([choice.value for choice in choices]) from None

    return choose


Interval = Annotated[IntervalStrategy | str, BeforeValidator(_choice(IntervalStrategy))]

SaveInterval = Annotated[SaveStrategy | str, BeforeValidator(_choice(SaveStrategy))]

HubPushes = Annotated[HubStrategy | str, BeforeValidator(_choice(HubStrategy))]


def _schedule(value: Any) -> SchedulerType:
    word = _word(value)
    if word == "greedy":
        raise PydanticCustomError(
            "schedule_greedy",
            "stepbus has no greedy schedule: pass optimizers=(optimizer, scheduler) to the "
            "Trainer, or choose reduce_lr_on_plateau",
        )
    try:
        return SchedulerType(word)
    except ValueError:
        known = [schedule.value for schedule in SCHEDULES]
        raise PydanticCustomError(
            "schedule", "There is no such schedule, {known}", {"known": nearest(str(word), known)}
        ) from None


Schedule = Annotated[SchedulerType | str, BeforeValidator(_schedule)]


def _optimizer(value: str) -> OptimizerNames:
    try:
        return OptimizerNames(value)
    except ValueError:
        raise PydanticCustomError(
            "optimizer",
            "stepbus makes {known} by name: for another one, pass optimizers=(optimizer, None) "
            "to the Trainer",
            {"known": ", ".join(name.value for name in OptimizerNames)},
        ) from None


Optimizer = Annotated[str, AfterValidator(_optimizer), BeforeValidator(_word)]
"""Plain text for parsers of command lines, so that our own error answers a wrong name."""

LOG_LEVELS: Mapping[str, int] = MappingProxyType(
    {
        "detail": logging.DEBUG,
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "warning": logging.WARNING,
        "error": logging.ERROR,
        "critical": logging.CRITICAL,
        "passive": -1,
    }
)
"""The levels by name; `passive` leaves the level as it is."""

START_METHODS = ("fork", "spawn", "forkserver")

SAMPLINGS = ("random", "sequential", "group_by_length")


def _one_of(*allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in allowed:
            raise _refused_choice(list(allowed))
        return value

    return AfterValidator(check)


NanPolicy = Annotated[str, _one_of("report", "stop", "strict")]
"""What comes of a loss or a gradient norm that is NaN or infinite."""

LogLevel = Annotated[str, _one_of(*LOG_LEVELS)]

StartMethod = Annotated[str, _one_of(*START_METHODS)]
"""How the processes that load data are started."""


def _sampling(value: Any) -> Any:
    if value == "batch_rebalance":
        raise PydanticCustomError(
            "sampling_rebalance",
            "stepbus rebalances no batches: choose group_by_length, or return a sampler from "
            "_get_train_sampler in a subclass of the Trainer",
        )
    return value


Sampling = Annotated[str, _one_of(*SAMPLINGS), BeforeValidator(_sampling)]


def _token_count(value: Any) -> Any:
    if isinstance(value, bool):
        return "all" if value else "no"
    switch = {"true": "all", "false": "no"}
    return switch.get(value.lower(), value) if isinstance(value, str) else value


TokenCount = Annotated[str, _one_of("all", "non_padding", "no"), BeforeValidator(_token_count)]
"""Which input tokens are counted; True means all, False none."""

MetricInput = Annotated[str, _one_of("inputs", "loss")]
"""What `compute_metrics` gets besides predictions and labels."""
