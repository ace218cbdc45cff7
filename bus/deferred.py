"""Values that are still on their way from the device when their event is emitted."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Deferred(ABC):
    """A handle on a number that a device has still to deliver. The engine makes them."""

    __slots__ = ()

    @abstractmethod
    def ready(self) -> bool:
        """Whether the number has arrived; cheap, never waits."""

    @abstractmethod
    def result(self) -> float:
        """The number; waits for it where it has not arrived."""


def resolve(value: object) -> object:
    """A value with every handle in it replaced by its number; waits."""
    if isinstance(value, dict):
        return {key: resolve(item) for key, item in value.items()}
    return value.result() if isinstance(value, Deferred) else value


def blank(value: object) -> object:
    """A value with None in place of each handle whose number has not arrived."""
    if isinstance(value, dict):
        return {key: blank(item) for key, item in value.items()}
    if isinstance(value, Deferred):
        return value.result() if value.ready() else None
    return value


def missing(values: dict[str, object]) -> tuple[str, ...]:
    """The names under which numbers have not arrived."""
    names: list[str] = []
    for name, value in values.items():
        if isinstance(value, dict):
            names.extend(missing(value))
        elif isinstance(value, Deferred) and not value.ready():
            names.append(name)
    return tuple(names)
