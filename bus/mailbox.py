"""A subscriber's own bounded, ordered queue, with an overflow policy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from ..schemas import Event
from ..schemas.errors import ArgumentError, nearest
from ..schemas.events import NEVER_DROPPED
from .checks import check_count
from .spill import Spill

if TYPE_CHECKING:
    from .spillway import Spillway

Overflow = Literal["spill", "drop_oldest", "drop_newest", "latest"]
OVERFLOWS: tuple[Overflow, ...] = ("spill", "drop_oldest", "drop_newest", "latest")

LOSSY = frozenset({"drop_oldest", "drop_newest", "latest"})
"""Policies whose way of keeping up is to drop."""

SPILL_SIZE = 4_096
"""What `spill` keeps in memory unless told otherwise: 7 MB of built events, at 1.7 KB each."""
MAILBOX_SIZE = 1_024
"""What the dropping policies keep unless told otherwise."""


class Mailbox:
    """Takes events from the pump and gives them to one worker, in order.

    Policies, when it is full:

    - `spill` (the default): what is more than its size waits in the log on disk, from which the
      worker reads on, until it has caught up: nothing is lost, in order, and memory stays flat.
    - `drop_oldest`, `drop_newest`: as they say.
    - `latest`: holds one event, the newest; for plots and live displays.

    Under every policy the kinds of `NEVER_DROPPED` are kept, even beyond the size: verdicts,
    run_failed, save, evaluate, predict, train begin and end.

    Of the events accepted, some wait, one may be in its handler, and the rest is settled: handled,
    or dropped and counted.

    Args:
        overflow: the policy.
        size: how many events it holds in memory, at least 1; `latest` always holds one.
        spillway: where `spill` puts what it has no room for; without one it holds all in memory.
        on_drop: called with the cause and the number of events dropped.
        let_go: called with each event that is thrown away.
    """

    def __init__(
        self,
        overflow: Overflow = "spill",
        size: int | None = None,
        *,
        spillway: Spillway | None = None,
        on_drop: Callable[[str, int], None] | None = None,
        let_go: Callable[[Event], None] | None = None,
    ) -> None:
        check_overflow(overflow, size)
        self.overflow = overflow
        default = SPILL_SIZE if overflow == "spill" else MAILBOX_SIZE
        self.size = 1 if overflow == "latest" else size or default
        self.peak = 0
        self.accepted = 0
        self.spilled = 0
        """Of those accepted, events that went through the log."""
        self.closed = False
        self._lossy = overflow != "spill"
        self._spillway = spillway
        self._spill: Spill | None = None
        self._events: deque[Event] = deque()
        # Written by the worker alone, so that it needs no lock for each event.
        self._worked = 0
        self._dropped = 0
        self._num_waiters = 0
        self._on_drop = on_drop or (lambda cause, count: None)
        self._let_go = let_go or (lambda event: None)
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._filled = threading.Condition(self._lock)

    def __len__(self) -> int:
        spill = self._spill
        return len(self._events) + (spill.waiting if spill is not None else 0)

    @property
    def num_in_memory(self) -> int:
        """How many of the waiting events are in memory."""
        return len(self._events)

    @property
    def bytes_on_disk(self) -> int:
        """About what the others take in the log."""
        spill = self._spill
        return spill.bytes_on_disk if spill is not None else 0

    @property
    def behind(self) -> bool:
        """Whether events wait in the log, from which the worker is to read on."""
        return self._spill is not None

    @property
    def is_crowded(self) -> bool:
        """Whether more than half of what it has room for is taken, and the rest will go to disk."""
        return not self._lossy and self._spill is None and len(self._events) * 2 > self.size

    @property
    def can_take(self) -> bool:
        """Whether there is an event for its worker, in memory or to be read on."""
        with self._lock:
            return self._has_some()

    @property
    def can_read_on(self) -> bool:
        """Whether `read_on` will get on: memory is empty, and the log is not; for the worker."""
        with self._lock:
            spill = self._spill
            return spill is not None and not self._events and spill.readable

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
            if self._spill is None and len(self._events) + len(events) <= self.size:
                self._events.extend(events)
            elif self._lossy:
                dropped = sum(self._put_one(event) for event in events)
                self._dropped += dropped
            else:
                self._put_or_spill(events)
            waiting = len(self)
            if waiting > self.peak:
                self.peak = waiting
            self._filled.notify()
            if dropped:
                self._settled.notify_all()
        if dropped:
            self._on_drop("overflow", dropped)
        return True

    def _put_or_spill(self, events: Sequence[Event]) -> None:
        if self._spillway is None:
            self._events.extend(events)
            return
        if self._spill is None:
            room = max(0, self.size - len(self._events))
            self._events.extend(events[:room])
            events = events[room:]
            self._spill = Spill(self._spillway, self._note_written)
        self._spill.hand_over(events)
        self.spilled += len(events)

    def _note_written(self, spill: Spill, lost: dict[str, int]) -> None:
        """Called by the pump once what a spill was handed is in the log, or is lost."""
        with self._lock:
            spill.num_unwritten = 0
            ended = spill.ended
            if not ended:
                spill.waiting -= sum(lost.values())
                self._dropped += sum(lost.values())
            self._filled.notify()
            self._settled.notify_all()
        if ended:
            self._throw_away(spill)
            return
        for cause, count in lost.items():
            self._on_drop(cause, count)

    def _throw_away(self, spill: Spill) -> None:
        spill.close()
        while spill.kept:
            self._let_go(spill.kept.popitem()[1])

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
        """Some of the events that wait in memory; from any thread, takes none."""
        return spread(self._events, most)

    def read_on(self) -> None:
        """Takes what comes next out of the log; for the one worker, when nothing is in memory.

        May wait for the disk. Once all was read, what comes is put into memory again.
        """
        spill = self._spill
        if spill is None or self._events:
            return
        events = spill.read()
        lost = 0
        with self._lock:
            thrown_away = spill.ended
            if not thrown_away:
                spill.waiting -= len(events)
                self._events.extend(events)
                if spill.is_read:
                    # What the disk did not give back.
                    lost = spill.waiting
                    spill.waiting = 0
                    spill.ended = True
                    self._spill = None
                    self._dropped += lost
                    self._settled.notify_all()
        if thrown_away:
            for event in events:
                self._let_go(event)
        elif spill.ended:
            self._throw_away(spill)
        if lost:
            self._on_drop("disk", lost)

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until there is an event or the mailbox is closed; True if there is an event,
        in memory or to be read on."""
        with self._lock:
            self._filled.wait_for(self._can_go_on, timeout)
            return self._has_some()

    @property
    def has_mail(self) -> bool:
        """Whether there is an event, in memory or to be read on."""
        with self._lock:
            return self._has_some()

    def _has_some(self) -> bool:
        return bool(self._events) or (self._spill is not None and self._spill.readable)

    def _can_go_on(self) -> bool:
        return self._has_some() or (self.closed and self._spill is None)

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

    def discard(self) -> int:
        """Throws away what waits; how many events that were, for the record."""
        discarded: list[Event] = []
        with self._lock:
            while self._events:
                try:
                    discarded.append(self._events.popleft())
                except IndexError:
                    break
            count = len(discarded)
            spill, self._spill = self._spill, None
            if spill is not None:
                count += spill.waiting
                spill.ended = True
            self._dropped += count
            self._settled.notify_all()
            self._filled.notify_all()
        if spill is not None:
            self._throw_away(spill)
        for event in discarded:
            self._let_go(event)
        return count


def spread(events: deque[Event], most: int) -> list[Event]:
    """Some of the events, spread evenly over all of them, while others may add and take."""
    found: list[Event] = []
    waiting = len(events)
    for place in range(0, waiting, max(1, waiting // most)):
        try:
            found.append(events[place])
        except IndexError:  # Some have been taken meanwhile.
            break
    return found[:most]


def check_overflow(overflow: str, size: int | None) -> None:
    """Raises ArgumentError for an unknown policy or a size below 1."""
    if overflow not in OVERFLOWS:
        raise ArgumentError(
            f"overflow={overflow!r} is no policy: {nearest(str(overflow), OVERFLOWS)}"
        )
    check_count("mailbox_size", size, 1)
