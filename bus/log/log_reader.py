"""Reads a log on disk: what `stepbus` itself wrote, whole or torn or damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pydantic_core

from ...schemas import Event
from ...schemas.errors import StepbusError
from ...schemas.event import SCHEMA_VERSION, parse_event
from ..diagnostics import get_logger
from .line import LogRecord
from .segment_reader import BadLine, SegmentReader, segment_paths

log = get_logger()


class Damage(NamedTuple):
    """A part of the log that cannot be read."""

    path: Path
    first_line: int
    """Number of its first line in the file, from 1."""
    last_line: int
    why: str
    first: int
    """Position of the first record that is missing."""
    num_lost: int | None
    """How many are missing; None where nothing comes after it that would tell."""

    def __str__(self) -> str:
        lines = f"line {self.first_line}"
        if self.last_line > self.first_line:
            lines = f"lines {self.first_line} to {self.last_line}"
        lost = "records are missing" if self.num_lost is None else f"{self.num_lost} missing"
        return f"{self.path}, {lines}: {self.why}; from position {self.first} on, {lost}."


def _say(damage: Damage) -> None:
    log.error(f"the log is damaged and is read on after it: {damage}")


class LogReader:
    """Iterates over the records of a log's folder, in order.

        for event in LogReader(folder).events():
            print(event.name, event.step)

    Half a line at the end of a segment is no error: its writer was stopped there. Lines that are
    damaged are passed over and reported, with the gap that they leave.

    Args:
        folder: where the segments lie.
        start: the position to begin at.
        report: what damage is told to; by default it is logged as an error.

    Raises:
        StepbusError: there is no log in the folder, or (while iterating) it is of a newer format.
        OSError: while iterating, a file cannot be read.
    """

    def __init__(
        self, folder: str | Path, start: int = 0, report: Callable[[Damage], object] = _say
    ) -> None:
        self.folder = Path(folder)
        self.start = start
        self.next = start
        """The position after the last record that was read."""
        self.torn: Path | None = None
        """The last segment, where it ends in half a line."""
        self._report = report
        self._schema_version = SCHEMA_VERSION
        if not segment_paths(self.folder):
            raise StepbusError(
                f"There is no log in {self.folder}: it holds no segment such as 000000000000.jsonl."
            )

    def __iter__(self) -> Iterator[LogRecord]:
        paths = segment_paths(self.folder)
        firsts = list(paths)
        begin = max((i for i, first in enumerate(firsts) if first <= self.start), default=0)
        self.next = firsts[begin]
        for first in firsts[begin:]:
            if first > self.next:
                why = "the segment before it is missing or cut short"
                self._report(Damage(paths[first], 1, 1, why, self.next, first - self.next))
                self.next = first
            yield from self._segment(paths[first])

    def events(self) -> Iterator[Event]:
        """The events alone. Kinds that this process does not know become `UnknownEvent`, whole.

        Raises:
            ArgumentError: a record that is whole holds no event.
        """
        for record in self:
            if record.kind == "event":
                values = pydantic_core.from_json(record.payload)
                if isinstance(values, dict):
                    values.setdefault("schema_version", self._schema_version)
                yield parse_event(values)

    def _segment(self, path: Path) -> Iterator[LogRecord]:
        reader = SegmentReader(path)
        bad: BadLine | None = None
        try:
            while (item := reader.read()) is not None:
                if isinstance(item, BadLine):
                    bad = bad or item
                    continue
                if item.at < self.next:
                    continue  # It was written twice, since it was not known to be written.
                if bad is not None or item.at > self.next:
                    self._tell(bad, reader, reader.line - 1, item.at - self.next)
                    bad = None
                self.next = item.at + 1
                if reader.header is not None:
                    self._schema_version = reader.header.schema_version
                if item.at >= self.start:
                    yield item
            if bad is not None:
                self._tell(bad, reader, reader.line, None)
            self.torn = path if reader.torn else None
        finally:
            reader.close()

    def _tell(
        self, bad: BadLine | None, reader: SegmentReader, last_line: int, lost: int | None
    ) -> None:
        first_line = bad.line if bad is not None else last_line
        why = bad.why if bad is not None else "records are missing after it"
        self._report(Damage(reader.path, first_line, last_line, why, self.next, lost))
