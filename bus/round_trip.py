"""Which events come back from their JSON as they were, and which must be kept as objects."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..schemas import Event
from ..schemas.events import (
    EpochBegin,
    EpochEnd,
    Log,
    OptimizerStep,
    PredictionStep,
    PreOptimizerStep,
    StepBegin,
    StepEnd,
    SubstepEnd,
)
from .log import encode

EXACT: frozenset[type[Event]] = frozenset(
    {
        StepBegin,
        SubstepEnd,
        PreOptimizerStep,
        OptimizerStep,
        StepEnd,
        EpochBegin,
        EpochEnd,
        PredictionStep,
        Log,
    }
)
"""Kinds that occur so often that they are not read back to see; their fields are such that the
JSON is exact, which a test holds."""


def encode_exactly(event: Event) -> bytes | None:
    """The event's JSON for the log, or None where reading it back would not give the event.

    The events of a user's own classes are read back and compared, which calls the serializers and
    validators that they declare; one that raises makes it None.
    """
    try:
        payload = encode(event)
        if type(event) in EXACT and b"\\\\" not in payload:
            return payload
        back = type(event).__pydantic_validator__.validate_json(payload)
    except Exception:
        return None
    return payload if same(back, event) else None


def same(one: object, other: object) -> bool:
    """Whether two values are of the same types and equal all the way down; NaN equals itself."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Event) and isinstance(other, Event):
        return (
            same(one.__dict__, other.__dict__)
            and same(one.__pydantic_extra__, other.__pydantic_extra__)
            and same(one.__pydantic_private__, other.__pydantic_private__)
        )
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    try:
        return bool(one == other)
    except Exception:
        return False  # Arrays, which compare element by element.
