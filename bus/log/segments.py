"""The files of a log that is being written: rotation, deletion, and where a position lies."""

from __future__ import annotations

import bisect
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from .line import LogRecord, header_of, line_of
from .segment_reader import segment_path

INDEX_EVERY = 64 * 1024
"""Bytes between two places of a segment that are remembered, for cursors that begin in it."""


class Segment:
    """One file: its first position, its size, and some places in it."""

    def __init__(self, first: int, path: Path) -> None:
        self.first = first
        self.path = path
        self.size = 0
        self.num_lines = 0
        """Of those that were written since it was made here."""
        self._places: list[tuple[int, int, int]] = [(first, 0, 0)]

    def note_places(self, records: Sequence[LogRecord], lines: Sequence[bytes]) -> None:
        """Remembers where some of the lines begin that are about to be appended."""
        offset = self.size
        for number, (record, line) in enumerate(zip(records, lines, strict=True), self.num_lines):
            if offset - self._places[-1][1] >= INDEX_EVERY:
                self._places.append((record.at, offset, number))
            offset += len(line)

    def place_of(self, at: int) -> tuple[int, int]:
        """A place at or before a position: offset in bytes, and number of lines before it."""
        index = bisect.bisect_right(self._places, (at, 1 << 62, 0)) - 1
        return self._places[max(0, index)][1:]


class Segments:
    """The segments of one log; written by its writer thread alone.

    The list is replaced whole when it changes, so that any thread may look into it.
    """

    def __init__(self, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self.all: tuple[Segment, ...] = ()
        self._file: int | None = None

    @property
    def num_bytes(self) -> int:
        """What the segments take on the disk."""
        return sum(segment.size for segment in self.all)

    @property
    def ends_here(self) -> bool:
        """Whether the next record begins a segment."""
        return self._file is None or self.all[-1].size >= self.segment_bytes

    def adopt(self, found: dict[int, Path]) -> None:
        """Takes the segments of a former writer; what follows goes into one of its own."""
        segments = []
        for first, path in found.items():
            segment = Segment(first, path)
            segment.size = path.stat().st_size
            segments.append(segment)
        self.all = tuple(segments)

    def write(self, folder: Path, records: Sequence[LogRecord]) -> None:
        """Appends records, in one write: all of them or none.

        Raises:
            OSError: the disk is full, say. The next call begins a new segment.
        """
        if self.ends_here:
            self._begin(folder, records[0].at)
        segment = self.all[-1]
        lines = [line_of(record) for record in records]
        data = b"".join(lines)
        try:
            self._write(data)
        except BaseException:
            self._take_back()
            raise
        segment.note_places(records, lines)
        segment.size += len(data)
        segment.num_lines += len(lines)

    def end_segment(self, *, sync: bool = False) -> None:
        """Closes the file that is being written."""
        file, self._file = self._file, None
        if file is not None:
            try:
                if sync:
                    os.fsync(file)
            finally:
                os.close(file)

    def delete_before(self, at: int) -> None:
        """Deletes the segments whose records all lie before a position."""
        keep = len(self.all)
        for index in range(len(self.all) - 1):
            if self.all[index + 1].first > at:
                keep = index
                break
        else:
            keep = max(0, len(self.all) - 1)
        gone, self.all = self.all[:keep], self.all[keep:]
        for segment in gone:
            with contextlib.suppress(OSError):
                segment.path.unlink()

    def delete_all(self) -> None:
        """Deletes every segment."""
        self.end_segment()
        gone, self.all = self.all, ()
        for segment in gone:
            with contextlib.suppress(OSError):
                segment.path.unlink()

    def make_inert(self) -> None:
        """In a forked child: the parent's files are left alone."""
        file, self._file = self._file, None
        self.all = ()
        if file is not None:
            os.close(file)

    def _begin(self, folder: Path, first: int) -> None:
        self.end_segment()
        segment = Segment(first, segment_path(folder, first))
        # A former segment of that name holds no record: its writer was stopped before the first.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(segment.path, flags, 0o600)
        others = tuple(other for other in self.all if other.first != first)
        header = header_of(first)
        try:
            self._write(header)
        except BaseException:
            self.end_segment()
            with contextlib.suppress(OSError):
                segment.path.unlink()
            self.all = others
            raise
        segment.size = len(header)
        segment.num_lines = 1
        self.all = (*others, segment)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def _take_back(self) -> None:
        """Cuts off what was written of lines that did not fit, and leaves the segment at that."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.all[-1].size)
        with contextlib.suppress(OSError):
            self.end_segment()
