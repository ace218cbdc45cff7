"""The states of runs on their way to a process: `event.state` holds there too.

An event carries a reference to the frozen rest of its run's state and a number of rows of its
history. The rest is sent to each subscriber where it changes; the rows, which only become more, are
sent to each process once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

from ...schemas import Event
from ...schemas.history import PendingRow
from ...schemas.state import StateMark, StateRest
from ..deferred import Deferred
from .messages import encode

MOST_HISTORIES = 8
"""Histories that a process keeps; of one that was let go of, all rows are sent again."""

History = list[dict[str, Any]]


class SentHistories:
    """The histories that a process has, and how many rows of each."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        # Held on to, so that no other list comes to have the same identity.
        self._histories: dict[int, tuple[History, int]] = {}
        self._next = 1

    def send(self, history: History, num_rows: int) -> tuple[int, bytes]:
        """The number of a history, and what must be sent before an event that has so many rows."""
        number, lines = self._numbers.get(id(history), 0), b""
        if not number:
            number, lines = self._admit(history)
        num_sent = self._histories[number][1]
        if num_rows > num_sent:
            rows = [_plain(row) for row in islice(history, num_sent, num_rows)]
            lines += encode("rows", source=number, rows=rows)
            self._histories[number] = (history, num_rows)
        return number, lines

    def _admit(self, history: History) -> tuple[int, bytes]:
        lines = b""
        if len(self._numbers) >= MOST_HISTORIES:
            oldest, former = next(iter(self._numbers.items()))
            del self._numbers[oldest], self._histories[former]
            lines = encode("forget", source=former)
        number, self._next = self._next, self._next + 1
        self._numbers[id(history)] = number
        self._histories[number] = (history, 0)
        return number, lines


class SentStates:
    """Writes one subscriber's events for one process, with their states."""

    def __init__(self, to: int, histories: SentHistories) -> None:
        self._to = to
        self._histories = histories
        self._rest: StateRest | None = None

    def lines_of(self, events: Sequence[Event], *, again: bool = False) -> bytes:
        """Some events as lines, behind headers; `again` where all of them come once more."""
        return b"".join(self._pieces(events, {"again": True} if again else {}))

    def _pieces(self, events: Sequence[Event], marks: dict[str, Any]) -> Iterator[bytes]:
        # The same object while nothing of the state is assigned.
        for _, group in groupby(events, lambda event: id(_captured(event)[0])):
            batch = list(group)
            rest = _captured(batch[0])[0]
            fields: dict[str, Any] = {"to": self._to, "count": len(batch), **marks}
            if rest is not None:
                numbers = [_captured(event)[1] for event in batch]
                fields["source"], before = self._histories.send(rest.history, max(numbers))
                fields["rows"] = numbers if numbers[0] != numbers[-1] else numbers[0]
                if rest is not self._rest:
                    self._rest, fields["values"] = rest, rest.values
                yield before
            yield encode("events", **fields)
            for event in batch:
                yield event.line()


def _captured(event: Event) -> tuple[StateRest | None, int]:
    captured: StateMark | None = getattr(event, "_captured", None)
    return captured or (None, 0)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it can be sent now: its event has waited for its values as long as it does."""
    if type(row) is dict or not isinstance(row, PendingRow):
        return row
    if row.known:
        row.settle()
        return dict(row)
    return {name: None if isinstance(value, Deferred) else value for name, value in row.items()}
