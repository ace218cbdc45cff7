"""The event for which what runs on the training thread is being called."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .emitter import Captured

if TYPE_CHECKING:
    from .deferred import Deferred
    from .emitter import Emitter, Values

_thread = threading.local()


class GateCall:
    """One event on its way through the gate; captured when somebody asks for that."""

    __slots__ = ("_captured", "deferred", "emitter", "note", "values")

    def __init__(
        self, emitter: Emitter, values: Values, deferred: tuple[Deferred, ...], note: Any
    ) -> None:
        self.emitter = emitter
        self.values = values
        self.deferred = deferred
        self.note = note
        self._captured: Captured | None = None

    @property
    def captured(self) -> Captured:
        """The event as the bus takes it."""
        if self._captured is None:
            link = self.emitter.link
            state = link.state
            self._captured = Captured(
                self.emitter,
                link.bus.clock.monotonic(),
                state.global_step,
                state.epoch,
                state.mark(),
                self.values,
                self.deferred,
                self.note,
            )
        return self._captured


def current() -> Captured | None:
    """What was captured of it; None while no callback is called in this thread."""
    call: GateCall | None = getattr(_thread, "call", None)
    return call.captured if call is not None else None


def enter(call: GateCall) -> GateCall | None:
    """Begins the calls for an event; gives back what `leave` needs, since they may be nested."""
    outer: GateCall | None = getattr(_thread, "call", None)
    _thread.call = call
    return outer


def leave(outer: GateCall | None) -> None:
    """Ends the calls for an event."""
    _thread.call = outer
