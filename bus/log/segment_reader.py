"""Reads one segment of the log, line by line, and tells what is damaged from what is torn."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .line import Header, LogRecord, parse_header, parse_line

SUFFIX = ".jsonl"


def segment_path(folder: Path, first: int) -> Path:
    """The file of the segment that begins at a position; names sort as positions do."""
    return folder / f"{first:012d}{SUFFIX}"


def segment_paths(folder: Path) -> dict[int, Path]:
    """The segments in a folder by their first positions, in order."""
    found = {int(p.stem): p for p in folder.glob(f"*{SUFFIX}") if p.stem.isdecimal()}
    return dict(sorted(found.items()))


class BadLine(NamedTuple):
    """A line that is no record, though it ends like one."""

    path: Path
    line: int
    """Its number in the file, from 1."""
    why: str


class SegmentReader:
    """Reads a segment from an offset on; may be asked again once more has been written.

    Args:
        path: the file.
        offset: where a line begins, bytes; 0 is the header.
        line: the number of that line less 1.

    Raises:
        OSError: the file cannot be opened.
    """

    def __init__(self, path: Path, offset: int = 0, line: int = 0) -> None:
        self.path = path
        self.header: Header | None = None
        self.line = line
        """Number of the line read last."""
        self.torn = False
        """Whether the file ended in half a line when it was last read: its writer was stopped, or
        is about to write the other half."""
        self._file = path.open("rb")
        self._file.seek(offset)
        self._offset = offset

    def read(self) -> LogRecord | BadLine | None:
        """The next record or bad line; None at the end, for now.

        Raises:
            OSError: the file cannot be read.
            StepbusError: a newer stepbus wrote it, in a format that this one cannot read.
        """
        while True:
            line = self._file.readline()
            if not line:
                self.torn = False
                return None
            whole = line.endswith(b"\n")
            if self.line == 0 and self._offset == 0:
                header = parse_header(line, self.path)
                if header is not None:
                    self.header = header
                    self._pass(line)
                    continue
            record = parse_line(line)
            if isinstance(record, str):
                if not whole:
                    self.torn = True
                    self._file.seek(self._offset)
                    return None
                self._pass(line)
                return BadLine(self.path, self.line, record)
            self._pass(line)
            return record

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _pass(self, line: bytes) -> None:
        self.line += 1
        self._offset += len(line)
