"""The kinds of value that a training argument takes, each with its bounds."""

import math
import os
from collections.abc import Callable
from enum import StrEnum
from numbers import Integral, Real
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, FiniteFloat, WrapValidator
from pydantic_core import PydanticCustomError

from .errors import nearest
from .strategies import SCHEDULES, IntervalStrategy, SaveStrategy, SchedulerType


def _plain_number(value: Any) -> Any:
    """Turns numpy's scalars into Python's; a bool is a mistake where a number belongs."""
    if isinstance(value, bool):
        raise PydanticCustomError("bool_as_number", "Input should be a number, not a bool")
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


NUMBER = BeforeValidator(_plain_number)

Size = Annotated[int, Field(gt=0), NUMBER]
"""How many there are of something: at least one."""

Count = Annotated[int, Field(ge=0), NUMBER]

Seed = Annotated[int, Field(ge=0, le=2**32 - 1), NUMBER]
"""What the generators of Python, numpy and torch all take."""

NonNegative = Annotated[FiniteFloat, Field(ge=0), NUMBER]

Positive = Annotated[FiniteFloat, Field(gt=0), NUMBER]

Beta = Annotated[FiniteFloat, Field(ge=0, lt=1), NUMBER]


def _max_steps(value: int) -> int:
    if value != -1 and value <= 0:
        raise PydanticCustomError(
            "max_steps", "Input should be greater than 0, or -1 to go by num_train_epochs"
        )
    return value


MaxSteps = Annotated[int, AfterValidator(_max_steps), NUMBER]


def _whole_from_one(value: float) -> float:
    if value == math.floor(value):
        return int(value)
    if value > 1:
        raise PydanticCustomError(
            "whole_steps", "Input should be a whole number of steps, or a part of the run below 1"
        )
    return value


Steps = Annotated[FiniteFloat, Field(ge=0), AfterValidator(_whole_from_one), NUMBER]
"""A number of steps, or below 1 a part of the run."""


def _choice(choices: type[StrEnum]) -> Callable[[Any], StrEnum]:
    def choose(value: Any) -> StrEnum:
        try:
            return choices(value)
        except ValueError:
            allowed = ", ".join(repr(choice.value) for choice in choices)
            raise PydanticCustomError(
                "choice", "Input should be one of {allowed}", {"allowed": allowed}
            ) from None

    return choose


Interval = Annotated[IntervalStrategy | str, BeforeValidator(_choice(IntervalStrategy))]

SaveInterval = Annotated[SaveStrategy | str, BeforeValidator(_choice(SaveStrategy))]


def _schedule(value: Any) -> SchedulerType:
    known = [schedule.value for schedule in sorted(SCHEDULES)]
    try:
        schedule = SchedulerType(value)
    except ValueError:
        raise PydanticCustomError(
            "schedule", "There is no such schedule, {known}", {"known": nearest(str(value), known)}
        ) from None
    if schedule not in SCHEDULES:
        raise PydanticCustomError(
            "schedule_not_yet",
            "Not yet: this version runs {known}; pass a scheduler of your own instead",
            {"known": ", ".join(known)},
        )
    return schedule


Schedule = Annotated[SchedulerType | str, BeforeValidator(_schedule)]

DEFAULT_FOLDER = "trainer_output"


def _folder(value: Any) -> Any:
    if value is None:
        return DEFAULT_FOLDER
    if isinstance(value, str | os.PathLike):
        value = os.fspath(value)
    if value == "":
        raise PydanticCustomError("no_folder", "Input should be a folder; '.' is the current one")
    if isinstance(value, str):
        return os.path.expanduser(value)  # noqa: PTH111 - a Path would respell the rest
    return value


Folder = Annotated[str, BeforeValidator(_folder)]


def _checkpoint(value: Any, as_text: Callable[[Any], Any]) -> Any:
    if isinstance(value, bool):
        return value or None
    return as_text(os.fspath(value) if isinstance(value, os.PathLike) else value)


Checkpoint = Annotated[str | None, WrapValidator(_checkpoint)]
"""A checkpoint's folder, or True for the last one of `output_dir`."""


def _names(value: Any) -> Any:
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) and n for n in names):
        raise PydanticCustomError("names", "Input should be a name, a list of names, or None")
    return [] if list(names) == ["none"] else list(names)


Names = Annotated[str | list[str] | None, BeforeValidator(_names)]
"""Names of trackers; None means those that are set up."""

Switch = Annotated[bool | None, AfterValidator(bool)]
"""None means off."""
