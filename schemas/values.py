"""The kinds of value that may stand in an event: host values only, and none that can change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, PlainSerializer

K = TypeVar("K")
V = TypeVar("V")

NON_FINITE: Mapping[str, float] = {
    "NaN": math.nan,
    "Infinity": math.inf,
    "-Infinity": -math.inf,
}
"""How NaN and the infinities travel in JSON: as these strings, in fields typed for numbers."""

FROZEN = ConfigDict(
    frozen=True, extra="ignore", ser_json_inf_nan="strings", use_attribute_docstrings=True
)
"""Shared by every frozen model: readers ignore fields that a newer writer added."""


class FrozenDict(dict[K, V]):
    """A dict that cannot be changed, since all subscribers of an event share it.

    Make a copy to edit: ``dict(event.logs)``.
    """

    __slots__ = ()

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError(
            "The values of an event are shared by all of its subscribers and cannot be changed; "
            "make a copy first: dict(values)."
        )

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _refuse
    __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __copy__(self) -> dict[K, V]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[K, V]:
        from copy import deepcopy

        return {deepcopy(key, memo): deepcopy(value, memo) for key, value in self.items()}

    def __reduce__(self) -> tuple[type[FrozenDict[K, V]], tuple[dict[K, V]]]:
        return (FrozenDict, (dict(self),))


def _restore_non_finite(values: Any) -> Any:
    if type(values) is not dict and not isinstance(values, Mapping):
        return values
    for value in values.values():
        if type(value) is str and value in NON_FINITE:
            break
    else:
        return values
    return {
        key: NON_FINITE.get(value, value) if isinstance(value, str) else value
        for key, value in values.items()
    }


def _spell_non_finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _spell_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spell_non_finite(item) for item in value]
    return value


Scalar = float | int | bool | str | None
"""What a logged value is once it has left the device; `None` for one that never arrived."""

Scalars = Annotated[
    dict[str, Scalar], BeforeValidator(_restore_non_finite), AfterValidator(FrozenDict)
]
"""Named values, read-only. The strings "NaN", "Infinity" and "-Infinity" mean the numbers."""


def encodable(value: Any) -> Any:
    """The value with what UTF-8 cannot spell escaped by backslashes, all the way down."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(item) for item in value]
    return value


def freeze(value: Any) -> Any:
    """The value with its dicts read-only and its lists as tuples, all the way down."""
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


def _read_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _read_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_read_plain(item) for item in value]
    return NON_FINITE.get(value, value) if isinstance(value, str) else value


Plain = Annotated[
    dict[str, Any],
    BeforeValidator(_read_plain),
    AfterValidator(freeze),
    PlainSerializer(_spell_non_finite, when_used="json"),
]
"""Nested plain values (a configuration), read-only all the way down; lists become tuples."""
