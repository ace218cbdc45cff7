"""How much memory waiting events take: measured on a few of them.

An event is walked once, its own fields only. What all events of a run share (the frozen rest of
the state, the run's name, the names of values, defaults) is no part of what one more of them takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from sys import getsizeof

from pydantic import BaseModel

from ..schemas import Event

SHARED = frozenset({"name", "run_id"})
SAMPLE = 8
"""Events of a mailbox that are measured at a look."""


def size_of(event: Event) -> int:
    """About how many bytes an event takes that waits in a mailbox."""
    return _size_of_model(event)


def mean_size(sample: Sequence[Event]) -> float:
    """About how many bytes one of the events takes that these are a sample of."""
    return sum(map(size_of, sample)) / len(sample)


def _size_of_model(model: BaseModel) -> int:
    fields, given = model.__dict__, model.__pydantic_fields_set__
    own = sum(_size_of(fields[name]) for name in given if name not in SHARED and name in fields)
    return getsizeof(model) + getsizeof(fields) + getsizeof(given) + own


def _size_of(value: object) -> int:
    if isinstance(value, Mapping):
        return getsizeof(value) + sum(map(_size_of, value.values()))
    if isinstance(value, list | tuple):
        return getsizeof(value) + sum(map(_size_of, value)) if value else 0
    if isinstance(value, BaseModel):
        return _size_of_model(value)
    return 0 if value is None or isinstance(value, bool) else getsizeof(value)
