"""A subscriber's own bounded, ordered queue, with an overflow policy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Literal

from ..schemas import Event
from ..schemas.errors import ArgumentError, nearest
from ..schemas.events import NEVER_DROPPED

Overflow = Literal["buffer", "drop_oldest", "drop_newest", "latest"]
OVERFLOWS: tuple[Overflow, ...] = ("buffer", "drop_oldest", "drop_newest", "latest")

BUFFER_SIZE = 100_000
"""What `buffer` keeps in memory."""
MAILBOX_SIZE = 1_024
"""What the dropping policies keep unless told otherwise."""


class Mailbox:
    """Takes events from the pump and gives them to one worker, in order.

    Policies, when it is full:

    - `buffer` (the default): up to 100,000 events in memory, for what may not be lost; a warning
      at half. Beyond that the newest are dropped, loudly.
    - `drop_oldest`, `drop_newest`: as they say.
    - `latest`: holds one event, the newest; for plots and live displays.

    Under every policy the kinds of `NEVER_DROPPED` are kept, even beyond the size: verdicts,
    run_failed, save, evaluate, predict, train begin and end.

    Args:
        overflow: the policy.
        size: how many events it holds, at least 1; `latest` always holds one.
        on_drop: called with the cause and the number of events dropped, in the pump's thread.
        on_half_full: called once, when `buffer` is half full.
    """

    def __init__(
        self,
        overflow: Overflow = "buffer",
        size: int | None = None,
        *,
        on_drop: Callable[[str, int], None] | None = None,
        on_half_full: Callable[[int], None] | None = None,
    ) -> None:
        check_overflow(overflow, size)
        self.overflow = overflow
        default = BUFFER_SIZE if overflow == "buffer" else MAILBOX_SIZE
        self.size = 1 if overflow == "latest" else size or default
        self.peak = 0
        self.accepted = 0
        self.settled = 0
        self.closed = False
        self._events: deque[Event] = deque()
        self._on_drop = on_drop or (lambda cause, count: None)
        self._on_half_full = on_half_full
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._filled = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._events)

    def put(self, events: Iterable[Event]) -> None:
        """Adds events in order; never waits."""
        dropped = 0
        with self._lock:
            if self.closed:
                return
            for event in events:
                self.accepted += 1
                if len(self._events) >= self.size:
                    if not self._make_room(event):
                        self.settled += 1
                        dropped += 1
                        continue
                    dropped += self._overflowed
                self._events.append(event)
            waiting = len(self._events)
            if waiting > self.peak:
                self.peak = waiting
            self._filled.notify()
            if dropped:
                self._settled.notify_all()
        if dropped:
            self._on_drop("overflow", dropped)
        if self._on_half_full is not None and self.overflow == "buffer" and waiting * 2 >= self.size:
            warn, self._on_half_full = self._on_half_full, None
            warn(waiting)

    def _make_room(self, event: Event) -> bool:
        """Whether the event may come in; drops one that waits if the policy says so."""
        self._overflowed = 0
        if self.overflow in ("buffer", "drop_newest"):
            return event.name in NEVER_DROPPED
        for index, waiting in enumerate(self._events):
            if waiting.name not in NEVER_DROPPED:
                del self._events[index]
                self.settled += 1
                self._overflowed = 1
                return True
        return event.name in NEVER_DROPPED or self.overflow == "latest"

    def take(self, most: int = 1) -> list[Event]:
        """Up to `most` events, oldest first; an empty list when there are none."""
        events = self._events
        with self._lock:
            if len(events) <= most:
                taken = list(events)
                events.clear()
                return taken
            return [events.popleft() for _ in range(most)]

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until there is an event or the mailbox is closed; True if there is an event."""
        with self._lock:
            if not self._events and not self.closed:
                self._filled.wait(timeout)
            return bool(self._events)

    def settle(self, count: int = 1) -> None:
        """Notes that events taken were dealt with, whatever came of them."""
        with self._lock:
            self.settled += count
            self._settled.notify_all()

    def wait_settled(self, target: int, timeout: float) -> bool:
        """Waits until `target` of the accepted events were dealt with; False at the time-out."""
        with self._lock:
            return self._settled.wait_for(lambda: self.settled >= target, timeout)

    def close(self) -> None:
        """Takes no more events; those inside can still be taken."""
        with self._lock:
            self.closed = True
            self._filled.notify_all()

    def discard(self) -> list[Event]:
        """Throws away what waits, and gives it to the caller for the record."""
        with self._lock:
            discarded = list(self._events)
            self._events.clear()
            self.settled += len(discarded)
            self._settled.notify_all()
        return discarded


def check_overflow(overflow: str, size: int | None) -> None:
    """Raises ArgumentError for an unknown policy or a size below 1."""
    if overflow not in OVERFLOWS:
        raise ArgumentError(f"overflow={overflow!r} is no policy: {nearest(overflow, OVERFLOWS)}")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ArgumentError(f"mailbox_size={size!r}: give a whole number of at least 1.")
