"""A place in the log, from which one consumer reads on."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING

from ..diagnostics import get_logger
from .line import LogRecord
from .segment_reader import BadLine, SegmentReader

if TYPE_CHECKING:
    from .event_log import EventLog
    from .segments import Segment

log = get_logger()

FAR = 512
"""Records that are rather skipped through the index than read."""


class Cursor:
    """Reads a log's records in order, on disk or not yet; made by `EventLog.cursor`.

    To be used by one thread at a time. Records that the disk lost are passed over and counted.
    """

    def __init__(self, event_log: EventLog, number: int, at: int) -> None:
        self.number = number
        """What `to` names it by."""
        self.next = at
        """The position to read next."""
        self.committed = at
        """What lies before this position will not be read again."""
        self.num_missing = 0
        """Positions that held no record: dropped, since the disk took nothing, or damaged."""
        self._log = event_log
        self._reader: SegmentReader | None = None
        self._segment: Segment | None = None
        self._reached = at
        """The position that the reader comes to next, at most."""
        self._unreadable: set[int] = set()
        self._closed = False

    def read(self, most: int = 256) -> list[LogRecord]:
        """The next records, at most so many; none when all that was appended has been read."""
        if self._closed:
            return []
        while True:
            records, memory_begins = self._log.unwritten(self.next, most)
            if records or self.next >= memory_begins:
                break
            records = self._from_disk(most, memory_begins)
            if records:
                break
            # The rest up to there was dropped, or cannot be read.
            self._pass_to(max(self.next, memory_begins))
        for record in records:
            self._pass_to(record.at)
            self.next = record.at + 1
        return records

    def commit(self, at: int | None = None) -> None:
        """Says that what lies before a position (what was read, by default) is not read again."""
        at = self.next if at is None else at
        if at > self.committed:
            self.committed = at
            if self._log.temporary and self._is_past_a_segment(at):
                self._log.tidy()

    def close(self) -> None:
        """Ends the cursor; what it alone needed of a temporary log is deleted."""
        if not self._closed:
            self._closed = True
            self._leave_segment()
            self._log.forget(self)

    def _pass_to(self, at: int) -> None:
        self.num_missing += at - self.next
        self.next = at

    def _is_past_a_segment(self, at: int) -> bool:
        segments = self._log.segments.all
        return len(segments) > 1 and segments[1].first <= at

    def _from_disk(self, most: int, end: int) -> list[LogRecord]:
        """Records from `next` on and before `end`; none where no segment holds any."""
        records: list[LogRecord] = []
        at = self.next
        if at - self._reached > FAR:
            self._leave_segment()
        while at < end and len(records) < most:
            try:
                if self._reader is None:
                    self._enter_segment_of(at)
                item = self._reader.read() if self._reader is not None else None
                if item is None and not self._enter_next_segment():
                    break
            except OSError as error:
                if self._log.is_gone:
                    self._closed = True
                    break
                self._say(f"the log cannot be read: {error}")
                self._give_up_segment()
                continue
            if isinstance(item, LogRecord):
                self._reached = item.at + 1
                if item.at >= at:
                    records.append(item)
                    at = item.at + 1
            elif isinstance(item, BadLine):
                self._say(f"{item.path}, line {item.line}: {item.why}; it is passed over")
        return records

    def _say(self, what: str) -> None:
        log.error(f"a consumer that fell behind loses events: {what}")

    def _enter_segment_of(self, at: int) -> None:
        """Begins to read a little before a position, where there is a segment."""
        segments = [s for s in self._log.segments.all if s.first not in self._unreadable]
        index = bisect.bisect_right([segment.first for segment in segments], at) - 1
        if segments:
            self._enter(segments[max(0, index)], at)

    def _enter_next_segment(self) -> bool:
        """Goes on to the segment after the one that was read to its end."""
        former = self._segment.first if self._segment is not None else -1
        for segment in self._log.segments.all:
            if segment.first > former and segment.first not in self._unreadable:
                self._enter(segment, segment.first)
                return True
        return False

    def _enter(self, segment: Segment, at: int) -> None:
        self._leave_segment()
        self._segment = segment
        offset, line = segment.place_of(at)
        self._reader = SegmentReader(segment.path, offset, line)
        self._reached = at

    def _give_up_segment(self) -> None:
        self._leave_segment()
        if self._segment is not None:
            self._unreadable.add(self._segment.first)

    def _leave_segment(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
