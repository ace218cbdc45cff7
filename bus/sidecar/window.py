"""What was taken from a mailbox for another process and is not dealt with yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice

from ...schemas import Event
from ..mailbox import LOSSY

WINDOW = 4_096
"""Events that are sent and not dealt with, at most."""
LOSSY_WINDOW = 16
"""The same where the mailbox may drop: what has been sent cannot be dropped any more."""
BATCH = 512
"""Events sent at once, so that all subscribers have their turn."""


class Window:
    """Events by their positions in a subscriber's stream, which are dense from 0.

    Args:
        events: where they are kept, for others to look at.
        overflow: the policy of the mailbox that they come from.
    """

    def __init__(self, events: deque[Event], overflow: str) -> None:
        self.begins = 0
        """The position of the first event; all before it are dealt with."""
        self._most = WINDOW if overflow not in LOSSY else LOSSY_WINDOW
        if overflow == "latest":
            self._most = 1
        self._most_now = self._most
        self._events = events
        self._num_sent = 0
        self._process_began = 0

    def __len__(self) -> int:
        return len(self._events)

    @property
    def has_room(self) -> bool:
        """Whether another event may be taken."""
        return len(self._events) < self._most_now

    @property
    def has_unsent(self) -> bool:
        """Whether the present process is to be sent some now."""
        return self._num_sent < min(len(self._events), self._most_now)

    @property
    def is_sent(self) -> bool:
        """Whether the present process has got all of it."""
        return self._num_sent == len(self._events)

    @property
    def got_on(self) -> bool:
        """Whether the present process has dealt with anything."""
        return self.begins > self._process_began

    @property
    def first(self) -> Event | None:
        """The event that its handler has now, or has next."""
        return self._events[0] if self._events else None

    def begin(self) -> None:
        """Another process is to be sent all of it."""
        self._num_sent = 0
        self._process_began = self.begins

    def go_slowly(self) -> None:
        """Sends one event, then two, then four: one that brings death is found to be the first."""
        self._most_now = 1

    def add(self, event: Event) -> None:
        """Takes another event."""
        self._events.append(event)

    def send(self) -> list[Event]:
        """The events to be sent now, which then count as sent."""
        end = min(self._num_sent + BATCH, self._most_now)
        unsent = list(islice(self._events, self._num_sent, end))
        self._num_sent += len(unsent)
        return unsent

    def at(self, position: int | None) -> Event | None:
        """The event at a position; None where that is dealt with, or is no position."""
        if position is None or not 0 <= position - self.begins < len(self._events):
            return None
        return self._events[position - self.begins]

    def settle_until(self, position: int) -> Iterator[Event]:
        """Lets go of all events before a position, one by one."""
        while self.begins < position and self._events:
            self.begins += 1
            self._num_sent = max(0, self._num_sent - 1)
            yield self._events.popleft()
        dealt_with = position - self._process_began
        self._most_now = min(self._most, max(self._most_now, 2 * dealt_with))

    def clear(self) -> list[Event]:
        """Lets go of all that is left."""
        left = list(self._events)
        self._events.clear()
        self._num_sent = 0
        return left
