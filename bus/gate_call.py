"""The event for which the gate callbacks of this thread's run are being called."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .emitter import Captured

_thread = threading.local()


def current() -> Captured | None:
    """What was captured of it; None while no callback is called in this thread."""
    captured: Captured | None = getattr(_thread, "captured", None)
    return captured


def enter(captured: Captured) -> Captured | None:
    """Begins the calls for an event; gives back what `leave` needs, since they may be nested."""
    outer = current()
    _thread.captured = captured
    return outer


def leave(outer: Captured | None) -> None:
    """Ends the calls for an event."""
    _thread.captured = outer
