"""Values that are still on their way from the device when their event is emitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from .diagnostics import get_logger

log = get_logger()


class Deferred(ABC):
    """A handle on a number that a device has still to deliver. The engine makes them."""

    __slots__ = ()

    @property
    def known(self) -> bool:
        """Whether `result` has nothing to wait for, as far as is known without asking a device."""
        return settled(self)

    @abstractmethod
    def ready(self) -> bool:
        """Whether the number has arrived; cheap, never waits. Raises if it never will."""

    @abstractmethod
    def result(self) -> Any:
        """The number, or what is made of several; waits for it where it has not arrived."""


def settled(handle: Deferred) -> bool:
    """Whether nothing is to be waited for: the number has arrived, or its device has failed."""
    try:
        return handle.ready()
    except Exception:
        return True


def fill(values: dict[str, Any], *, wait: bool = False) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The values with numbers in place of handles, and the names of those that are None.

    None stands where a number has not arrived, or with `wait` (which waits for them) where its
    device has failed.
    """
    lost: list[str] = []
    return _fill(values, wait, lost), tuple(lost)


def _fill(values: dict[str, Any], wait: bool, lost: list[str]) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Deferred):
            number = _number(name, value, wait)
            if number is None:
                lost.append(name)
            filled[name] = number
        else:
            filled[name] = _fill(value, wait, lost) if isinstance(value, dict) else value
    return filled


def _number(name: str, handle: Deferred, wait: bool) -> Any:
    try:
        return handle.result() if wait or handle.ready() else None
    except Exception as error:
        log.error(f"the value of {name!r} cannot be read from its device: {error!r}")
        return None
