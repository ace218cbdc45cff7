"""What a mailbox has no room for: read on from the log, until its worker has caught up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..schemas import Event
from .diagnostics import get_logger
from .log import Cursor, LogRecord
from .spilled_state import StateReader

if TYPE_CHECKING:
    from .spillway import Spillway

log = get_logger()

READ_AT_A_TIME = 64
"""Records that a worker reads on; more would hold the interpreter lock for longer than a slice."""


class Spill:
    """One stretch of events of one mailbox in the log, from its falling behind to its catching up.

    The pump hands over and writes, the worker reads; the mailbox's lock guards the counts.
    """

    def __init__(
        self, spillway: Spillway, written: Callable[[Spill, dict[str, int]], None]
    ) -> None:
        self.unwritten: list[Event] = []
        """Handed over, not in the log yet; the pump's own."""
        self.waiting = 0
        """Events that the worker is still to read, those not written among them."""
        self.num_unwritten = 0
        self.end = 0
        """The position after the last record that was written for it."""
        self.num_bytes = 0
        """Of all that was written for it."""
        self.num_written = 0
        self.ended = False
        self.kept: dict[int, Event] = {}
        """Events that are given as they are, by position: they hold on to something, or their JSON
        would not give them back."""
        self.written = written
        """To be called once what was handed over is in the log, with what was lost of it by
        cause."""
        self.cursor: Cursor | None = None
        self.number = 0
        """Of its cursor."""
        self._spillway = spillway
        self._states: StateReader | None = None
        self._reading = threading.Lock()

    def hand_over(self, events: Sequence[Event]) -> None:
        """Takes events that are to be written; for the pump, with the mailbox's lock held."""
        if not self.unwritten:
            self._spillway.due.append(self)
        self.unwritten += events
        self.num_unwritten += len(events)
        self.waiting += len(events)

    def begin(self, cursor: Cursor, states: StateReader) -> None:
        """Takes the place in the log at which it begins."""
        self.cursor, self._states, self.number = cursor, states, cursor.number

    def note_record(self, at: int, num_bytes: int) -> None:
        """Notes where a record of its own is about to stand, and its size; for the pump."""
        self.end = at + 1
        self.num_written += 1
        self.num_bytes += num_bytes

    @property
    def readable(self) -> bool:
        """Whether reading will get on, with an event or to the end; with the lock held."""
        cursor = self.cursor
        return cursor is not None and (not self.num_unwritten or cursor.next < self.end)

    @property
    def is_read(self) -> bool:
        """Whether all was read that was handed over; with the lock held."""
        cursor = self.cursor
        return cursor is not None and not self.num_unwritten and cursor.next >= self.end

    @property
    def bytes_on_disk(self) -> int:
        """About what the waiting events take in the log."""
        return round(self.waiting * self.num_bytes / self.num_written) if self.num_written else 0

    def read(self) -> list[Event]:
        """The next events; may wait for the disk. For the worker, without the lock."""
        with self._reading:
            events: list[Event] = []
            cursor = self.cursor
            while cursor is not None and not self.ended and not events:
                records = cursor.read(READ_AT_A_TIME)
                events = [event for record in records if (event := self._event(record)) is not None]
                cursor.commit()
                if not records:
                    break
        if self.ended:
            self.close()
        return events

    def close(self) -> None:
        """Lets go of the log; where a worker is reading just now, it does so when it has."""
        self.ended = True
        if self._reading.acquire(blocking=False):
            try:
                if self.cursor is not None:
                    self.cursor.close()
                    self._spillway.leave(self)
            finally:
                self._reading.release()

    def _event(self, record: LogRecord) -> Event | None:
        assert self.cursor is not None
        assert self._states is not None
        if record.kind == "state":
            self._states.apply(record.payload)
            return None
        if self.cursor.number not in record.to:
            return None
        event = self.kept.pop(record.at, None)
        if event is not None:
            return event
        try:
            return self._states.attach(self._spillway.decode(record.payload))
        except Exception as error:
            log.error(f"a consumer that fell behind loses an event: {error!r}, {record!r:.300}")
            return None
