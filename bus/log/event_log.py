"""The log: events on disk, append-only, for consumers that fall behind, for replay, for reports."""

from __future__ import annotations

import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

from .. import fork
from ..diagnostics import get_logger
from .cursor import Cursor
from .line import LogRecord
from .log_reader import LogReader
from .scratch import Scratch
from .segment_reader import segment_paths
from .segments import Segments
from .writer import Writer

log = get_logger()

_position = itemgetter(0)

SEGMENT_BYTES = 8 << 20
"""A segment that is larger is ended; the next begins."""
MEMORY_BYTES = 16 << 20
"""What may wait for a disk that takes nothing; beyond it records are dropped."""
RECORD_BYTES = 200
"""What a record takes in memory besides its payload, about."""


class EventLog:
    """Records in a folder, with a position each, and cursors that read them.

    Appending puts a record into memory and never waits; a thread of the log's own writes it down.
    That thread runs only while there is something to write.

    Args:
        folder: where the segments lie, and stay. Those that lie there already are read by cursors,
            and what is appended goes on after them. None for a temporary log: the folder is made
            with the first record and removed by `close`, or when the program ends, and segments
            are deleted once every cursor has passed them.
        segment_bytes: size after which a segment is ended.
        memory_bytes: how much may wait in memory while the disk takes nothing.
        spare_bytes: how much of the disk a temporary log leaves free, for checkpoints: the disk
            counts as full before that. By default 1 GB, of a small disk a twentieth.

    Raises:
        OSError: the folder cannot be made or read.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        memory_bytes: int = MEMORY_BYTES,
        spare_bytes: int | None = None,
    ) -> None:
        self.temporary = folder is None
        self.next = 0
        """The position of the next record."""
        self.num_dropped = 0
        """Records that were dropped since the disk took nothing."""
        self.segments = Segments(segment_bytes)
        self.memory_bytes = memory_bytes
        """How much may wait in memory while the disk takes nothing."""
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        self._unwritten: list[LogRecord] = []
        self._unwritten_bytes = 0
        self._cursors: dict[int, Cursor] = {}
        self._num_cursors = 0
        self._inert = False
        if folder is not None:
            self._go_on_in(Path(folder))
        self._scratch = scratch = Scratch(spare_bytes)
        self._writer = Writer(self, Path(folder) if folder is not None else None, scratch)
        # For those who let go of a log without closing it, and for the end of the program.
        weakref.finalize(self, scratch.remove)
        fork.register(self)

    def append(self, payload: bytes, to: Sequence[int] = (), *, keep: bool = False) -> int | None:
        """Adds an event's JSON and gives its position; never waits.

        Args:
            payload: one JSON object, without a line break.
            to: numbers of the cursors that it is meant for, where it is not for all.
            keep: take it even when too much waits for the disk already.

        Returns:
            The position, or None when the record was dropped since the disk takes nothing; its
            position then stays empty.

        Raises:
            BusClosedError: in a forked child.
        """
        return self.append_record(payload, tuple(to), "event", keep=keep)

    def append_record(
        self, payload: bytes, to: tuple[int, ...], kind: str, *, keep: bool = False
    ) -> int | None:
        """As `append`, for a record of another kind."""
        if self._inert:
            fork.refuse()
        with self._lock:
            at = self.next
            if self.is_full and not keep:
                self.next = at + 1
                self.num_dropped += 1
                at = -1
            else:
                self._add([LogRecord(at, payload, to, kind)])
        self._writer.attend()
        return at if at >= 0 else None

    def append_all(self, records: Sequence[LogRecord]) -> None:
        """Adds records whose positions follow each other, and the last one here; never drops any.

        To be used where nobody else appends at the same time.

        Raises:
            BusClosedError: in a forked child.
        """
        if self._inert:
            fork.refuse()
        if records:
            with self._lock:
                assert records[0].at == self.next
                self._add(records)
            self._writer.attend()

    def _add(self, records: Sequence[LogRecord]) -> None:
        self._unwritten += records
        self._unwritten_bytes += sum([len(r.payload) for r in records])
        self._unwritten_bytes += RECORD_BYTES * len(records)
        self.next = records[-1].at + 1

    def cursor(self, at: int | None = None) -> Cursor:
        """A cursor from a position on; by default, what is appended after this call."""
        with self._lock:
            self._num_cursors += 1
            cursor = Cursor(self, self._num_cursors, self.next if at is None else at)
            self._cursors[cursor.number] = cursor
        return cursor

    @property
    def num_cursors(self) -> int:
        """Cursors that are open."""
        return len(self._cursors)

    @property
    def num_unwritten(self) -> int:
        """Records that are in memory alone."""
        return len(self._unwritten)

    @property
    def is_full(self) -> bool:
        """Whether what is appended is dropped, since too much waits for the disk."""
        return self._unwritten_bytes > self.memory_bytes

    @property
    def unwritten_bytes(self) -> int:
        """What these take in memory, about."""
        return self._unwritten_bytes

    @property
    def disk_bytes(self) -> int:
        """What the segments take on the disk."""
        return self.segments.num_bytes

    @property
    def folder(self) -> Path | None:
        """Where the segments lie; None for a temporary log that has written nothing."""
        return self._writer.folder

    @property
    def is_gone(self) -> bool:
        """Whether a temporary log has been deleted with what was in it: the program ends."""
        return self._scratch.removed

    @property
    def failing(self) -> str:
        """Why the disk takes nothing now; empty while it does."""
        return self._writer.failing

    def flush(self, timeout: float) -> bool:
        """Waits until all that was appended is on disk or passed by; False at the time-out (s)."""
        target = self.next
        deadline = time.monotonic() + timeout
        self._writer.attend(hurry=True)
        with self._written:
            while self._unwritten and self._unwritten[0].at < target:
                left = deadline - time.monotonic()
                if left <= 0 or not self._written.wait(left):
                    return not self._unwritten or self._unwritten[0].at >= target
        return True

    def close(self, timeout: float = 5.0) -> None:
        """Writes what waits and ends the thread; a later `append` starts it again.

        A temporary log whose cursors are closed is deleted; with open ones it is when the last of
        them closes. What a kept log could not write within `timeout` seconds is dropped, and said.
        """
        if self._inert:
            return
        if self.temporary:
            self.passed()
        self._writer.end(timeout)
        if self.temporary:
            with self._lock:
                unread = bool(self._cursors)
            if not unread:
                self._writer.remove_folder()
            return
        with self._lock:
            lost, self._unwritten = len(self._unwritten), []
            self._unwritten_bytes = 0
            self.num_dropped += lost
        if lost:
            log.error(f"{lost} records of the log in {self.folder} could not be written.")

    # For the writer.

    def next_batch(self, most: int) -> list[LogRecord]:
        """The oldest records that wait to be written."""
        with self._lock:
            return self._unwritten[:most]

    def settle(self, at: int) -> None:
        """Lets go of the records up to a position: they are on disk."""
        with self._lock:
            self._let_go(at + 1)

    def passed(self) -> int:
        """The position before which no cursor reads; a temporary log lets go of what is before."""
        with self._lock:
            low = min((c.committed for c in self._cursors.values()), default=self.next)
            if self.temporary:
                self._let_go(low)
            return low

    def _let_go(self, before: int) -> None:
        count = bisect_left(self._unwritten, before, key=_position)
        if count:
            gone = self._unwritten[:count]
            del self._unwritten[:count]
            self._unwritten_bytes -= sum([len(r.payload) + RECORD_BYTES for r in gone])
            self._written.notify_all()

    # For cursors.

    def unwritten(self, at: int, most: int) -> tuple[list[LogRecord], int]:
        """Records in memory from a position on, and the position where memory begins.

        None of them where memory begins after `at`: what is between is on disk.
        """
        with self._lock:
            records = self._unwritten
            begins = records[0].at if records else self.next
            if at < begins:
                return [], begins
            index = bisect_left(records, at, key=_position)
            return records[index : index + most], begins

    def forget(self, cursor: Cursor) -> None:
        """Lets go of a cursor that was closed."""
        with self._lock:
            self._cursors.pop(cursor.number, None)
            unread = not self._cursors
        if self.temporary and not self._inert:
            self._writer.tidy(unread=unread)

    def tidy(self) -> None:
        """Has segments deleted that all cursors have passed."""
        self._writer.tidy(unread=False)

    def make_inert(self) -> None:
        """In a forked child: appending is an error, and the parent's folder is left alone."""
        self._inert = True
        self._lock = threading.Lock()
        self._written = threading.Condition(self._lock)
        self._unwritten = []
        self._cursors = {}
        self._writer.make_inert()

    def _go_on_in(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        found = segment_paths(folder)
        if found:
            self.segments.adopt(found)
            reader = LogReader(folder, start=max(found))
            for _ in reader:
                pass
            self.next = max(reader.next, max(found))
