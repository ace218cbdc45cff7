"""A subscriber's own bounded, ordered queue, with an overflow policy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from ..schemas import Event
from ..schemas.errors import ArgumentError, nearest
from ..schemas.events import NEVER_DROPPED
from .checks import check_count

Overflow = Literal["buffer", "drop_oldest", "drop_newest", "latest"]
OVERFLOWS: tuple[Overflow, ...] = ("buffer", "drop_oldest", "drop_newest", "latest")

LOSSY = frozenset({"drop_oldest", "drop_newest", "latest"})
"""Policies whose way of keeping up is to drop."""

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

    Of the events accepted, some wait, one may be in its handler, and the rest is settled: handled,
    or dropped and counted.

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
        self.closed = False
        self._lossy = overflow != "buffer"
        self._events: deque[Event] = deque()
        # Written by the worker alone, so that it needs no lock for each event.
        self._worked = 0
        self._dropped = 0
        self._num_waiters = 0
        self._on_drop = on_drop or (lambda cause, count: None)
        self._on_half_full = on_half_full if overflow == "buffer" else None
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._filled = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def settled(self) -> int:
        """How many of the accepted events were dealt with, whatever came of them."""
        return self._worked + self._dropped

    @property
    def worked(self) -> int:
        """How many of the accepted events its worker was given and has done with."""
        return self._worked

    def put(self, events: Sequence[Event]) -> bool:
        """Adds events in order; never waits. False when the mailbox is closed and took none."""
        dropped = 0
        with self._lock:
            if self.closed:
                return False
            self.accepted += len(events)
            if len(self._events) + len(events) <= self.size:
                self._events.extend(events)
            else:
                dropped = sum(self._put_one(event) for event in events)
                self._dropped += dropped
            waiting = len(self._events)
            if waiting > self.peak:
                self.peak = waiting
            self._filled.notify()
            if dropped:
                self._settled.notify_all()
        if dropped:
            self._on_drop("overflow", dropped)
        if self._on_half_full is not None and waiting * 2 >= self.size:
            warn, self._on_half_full = self._on_half_full, None
            warn(waiting)
        return True

    def _put_one(self, event: Event) -> int:
        """Adds an event, and says how many were dropped for it or in its place."""
        if len(self._events) < self.size:
            self._events.append(event)
            return 0
        if self.overflow in ("drop_oldest", "latest"):
            for index, waiting in enumerate(self._events):
                if waiting.name not in NEVER_DROPPED:
                    del self._events[index]
                    self._events.append(event)
                    return 1
        if event.name in NEVER_DROPPED or self.overflow == "latest":
            self._events.append(event)
            return 0
        return 1

    def take(self) -> Event | None:
        """The oldest event, or None when there is none; for the one worker."""
        try:
            if not self._lossy:
                return self._events.popleft()
            # The pump may be taking one out of the middle.
            with self._lock:
                return self._events.popleft()
        except IndexError:
            return None

    def sample(self, most: int) -> list[Event]:
        """Some of the waiting events, spread over all of them; from any thread, takes none."""
        events, found = self._events, []
        waiting = len(events)
        for place in range(0, waiting, max(1, waiting // most)):
            try:
                found.append(events[place])
            except IndexError:  # The worker has taken some meanwhile.
                break
        return found[:most]

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until there is an event or the mailbox is closed; True if there is an event."""
        with self._lock:
            if not self._events and not self.closed:
                self._filled.wait(timeout)
            return bool(self._events)

    def settle(self) -> None:
        """Notes that the event taken last was dealt with; for the one worker."""
        self._worked += 1
        if self._num_waiters:
            with self._lock:
                self._settled.notify_all()

    def wait_settled(self, target: int, timeout: float) -> bool:
        """Waits until `target` of the accepted events were dealt with; False at the time-out."""
        with self._lock:
            self._num_waiters += 1
            try:
                return self._settled.wait_for(lambda: self.settled >= target, timeout)
            finally:
                self._num_waiters -= 1

    def close(self) -> None:
        """Takes no more events; those inside can still be taken."""
        with self._lock:
            self.closed = True
            self._filled.notify_all()

    def discard(self) -> list[Event]:
        """Throws away what waits, and gives it to the caller for the record."""
        discarded = []
        with self._lock:
            while self._events:
                try:
                    discarded.append(self._events.popleft())
                except IndexError:
                    break
            self._dropped += len(discarded)
            self._settled.notify_all()
        return discarded


def check_overflow(overflow: str, size: int | None) -> None:
    """Raises ArgumentError for an unknown policy or a size below 1."""
    if overflow not in OVERFLOWS:
        raise ArgumentError(
            f"overflow={overflow!r} is no policy: {nearest(str(overflow), OVERFLOWS)}"
        )
    check_count("mailbox_size", size, 1)
