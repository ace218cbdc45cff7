"""Every error that stepbus raises on purpose: what was wrong, with what value, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StepbusError(Exception):
    """The base of all errors of stepbus."""


class ArgumentError(StepbusError, ValueError):
    """An argument, option or name is wrong; raised at the call or before the first step."""


class DataError(StepbusError):
    """The training data is missing, empty, unreadable or too short."""


class CheckpointError(StepbusError):
    """A checkpoint cannot be written, is damaged, or belongs to another model."""


class BusClosedError(StepbusError):
    """The bus is closed, or this is a forked child process in which it is inert."""


class DeliveryError(StepbusError):
    """A subscriber could not be set up, or what it should have had did not reach it."""


class UnreachableError(DeliveryError):
    """A server does not answer. A handler that raises it is called again with the same event, after
    0.1 s and then less and less often, until it answers or the run waits for it no longer."""


class EventsGoneError(DeliveryError):
    """What a late reader asked for is no longer kept; `first` is where it can begin instead."""

    def __init__(self, message: str, first: tuple[int, int] | None = None) -> None:
        super().__init__(message)
        self.first = first


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that names the most similar known names, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if not close and len(name) > 3:
        close = [longer for longer in names if name in longer][:3]
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"known: {', '.join(names)}."
