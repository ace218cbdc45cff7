"""Kinds of which nobody takes anything before a certain time are not emitted until then.

A display that looks at a step ten times a second costs a step of half a millisecond nothing then,
but an attribute check.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .clock import Clock
from .emitter import Emitter

if TYPE_CHECKING:
    from .outgoing import Lane, Outgoing
    from .roster import Roster

UNTAKEN = 8
"""Events in a row that nobody takes before their kind may rest: where they come so fast, the pump
looks often enough for the rest to end in time."""
EARLY_S = 0.04
"""How much before somebody may take one the rest ends: more than the pump's longest pause."""


class Resting:
    """Has emitters rest, and wakes them; used by the pump's thread alone."""

    def __init__(self, clock: Clock, roster: Roster, outgoing: Outgoing) -> None:
        self._clock = clock
        self._roster = roster
        self._outgoing = outgoing
        self._until: dict[Emitter, float] = {}

    def note_untaken(self, emitter: Emitter, lanes: Sequence[Lane]) -> None:
        """Notes that nobody took an event, who has subscribed to its kind."""
        emitter.untaken += 1
        if emitter.untaken < UNTAKEN:
            return
        emitter.untaken = 0
        run = emitter.link.key
        until = min(lane.subscription.rests_until(lane.route, emitter.kind, run) for lane in lanes)
        until -= EARLY_S
        if until <= self._clock.monotonic():
            return
        # Who subscribes just now must be heard: the lock holds listeners as they are. Whoever has
        # it may be waiting for the pump.
        if not self._roster.lock.acquire(blocking=False):
            return
        try:
            if self._outgoing.lanes_of(emitter.event_class) is lanes:
                emitter.rest(True)
                self._until[emitter] = until
        finally:
            self._roster.lock.release()

    def wake(self, *, everybody: bool = False) -> None:
        """Ends the rest of those whose time has come."""
        if not self._until:
            return
        now = math.inf if everybody else self._clock.monotonic()
        for emitter, until in list(self._until.items()):
            if now < until or not self._roster.lock.acquire(blocking=False):
                continue
            try:
                del self._until[emitter]
                emitter.rest(False)
            finally:
                self._roster.lock.release()
