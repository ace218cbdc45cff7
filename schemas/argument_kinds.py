"""The kinds of value that a training argument takes, each with its bounds."""

import json
import math
import os
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    ValidationInfo,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from .repository_names import repository_problem


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

Part = Annotated[FiniteFloat, Field(ge=0, le=1), NUMBER]
"""A part of the whole, the whole included."""


def _rank(value: int) -> int:
    if value not in (-1, 0):
        raise PydanticCustomError(
            "rank", "stepbus trains in one process: leave it out, and start one process"
        )
    return value


Rank = Annotated[int, AfterValidator(_rank), NUMBER]
"""The number that a launcher gives a process: -1 without a launcher, 0 for the only one."""


def _delay(value: Any) -> Any:
    return 0 if value is None else value


Delay = Annotated[FiniteFloat, Field(ge=0), NUMBER, BeforeValidator(_delay)]
"""Steps or epochs to wait; None means none."""


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


def _folder_or_none(value: Any) -> Any:
    return None if value is None else _folder(value)


OptionalFolder = Annotated[str | None, BeforeValidator(_folder_or_none)]


def _checkpoint(value: Any, as_text: Callable[[Any], Any]) -> Any:
    if isinstance(value, bool):
        return value or None
    return as_text(os.fspath(value) if isinstance(value, os.PathLike) else value)


Checkpoint = Annotated[str | None, WrapValidator(_checkpoint)]
"""A checkpoint's folder, or True for the last one of `output_dir`."""


def _repository(value: str | None) -> str | None:
    problem = None if value is None else repository_problem(value)
    if problem:
        raise PydanticCustomError("repository", "{problem}", {"problem": problem})
    return value


Repository = Annotated[str | None, AfterValidator(_repository)]
"""A repository on the Hub: `name`, or `owner/name`."""


def _secret(value: str | None, info: ValidationInfo) -> str | None:
    # As `to_dict` writes it, whatever it was; a parser may give an empty one.
    return None if value in ("", f"<{str(info.field_name).upper()}>") else value


Secret = Annotated[str | None, AfterValidator(_secret)]
"""What is never written down."""


def _names(value: Any) -> Any:
    if value is None:
        return None
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(n, str) and n for n in names):
        raise PydanticCustomError("names", "Input should be a name, a list of names, or None")
    return [] if list(names) == ["none"] else list(names)


# The parser of transformers reads the order of a union.
Names = Annotated[None | str | list[str], BeforeValidator(_names)]  # noqa: RUF036
"""Names of trackers; None means those that are set up."""


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Columns = Annotated[list[str] | None, BeforeValidator(_as_list)]
"""Names of columns; one may stand without a list."""

Switch = Annotated[bool | None, AfterValidator(bool)]
"""None means off."""

SWITCH: Mapping[str, Any] = MappingProxyType({"nargs": "?", "const": True})
"""What a parser of transformers' kind needs to take a flag without its value as True."""


def _settings(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value = _with_values(json.loads(value))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise PydanticCustomError("settings", "Input should be a dict, or one as JSON text")
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        _refuse_non_finite(value)
    elif value is not None:
        raise PydanticCustomError(
            "settings", "Input should be a dict whose keys are names, or one as JSON text"
        )
    return value


def _with_values(value: Any) -> Any:
    """Words of a command line as what they say: true, 3 and 0.5 are no text."""
    if isinstance(value, dict):
        return {key: _with_values(item) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if value.isdecimal():
        return int(value)
    return float(value) if value.replace(".", "", 1).isdecimal() else value


def _refuse_non_finite(settings: dict[str, Any]) -> None:
    for name, value in settings.items():
        if isinstance(value, dict):
            _refuse_non_finite(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise PydanticCustomError(
                "settings_finite", "Input should have a finite number at '{name}'", {"name": name}
            )


Settings = Annotated[dict[str, Any] | str | None, BeforeValidator(_settings)]
"""Keyword arguments as a dict, or as JSON text that becomes one."""
