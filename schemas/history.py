"""The history of a run's logs: its rows as they were, and those whose values are on their way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, overload

from .values import FrozenDict

PENDING = "_pending"
"""The attribute of a state that holds the place and the row of what is on its way."""


MARK = "_mark"
"""The attribute of a state that holds how long its history was, for events; None where it may have
grown since."""


class PendingRow(dict[str, Any], ABC):
    """A row some of whose values are still on their way from a device.

    Whoever reads the history gets numbers: reading it settles its rows.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def known(self) -> bool:
        """Whether `settle` has nothing to wait for."""

    @abstractmethod
    def settle(self) -> None:
        """Puts numbers in place of what is on its way, and waits for them; None for what is lost.

        From any thread, and as often as one likes.
        """

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        self.settle()
        return (dict, (dict(self),))


class LogHistory:
    """The attribute `log_history` of a state, which holds numbers whenever it is read."""

    def __get__(self, state: Any, owner: type | None = None) -> Any:
        if state is None:
            raise AttributeError("log_history belongs to a state, not to its class.")
        own = state.__dict__
        if own.get(PENDING):
            settle(own)
        own[MARK] = None
        return own["log_history"]

    def __set__(self, state: Any, value: object) -> None:
        state.__dict__["log_history"] = value
        state.__dict__[MARK] = None


def add_row(own: dict[str, Any], row: dict[str, Any]) -> None:
    """Adds a row to the history among a state's own attributes; waits for nobody."""
    rows = own["log_history"]
    rows.append(row)
    pending = own.get(PENDING)
    if isinstance(row, PendingRow):
        if pending is None:
            pending = own[PENDING] = deque()
        pending.append((len(rows) - 1, row))
    if pending:
        settle(own, only_known=True)


def settle(own: dict[str, Any], *, only_known: bool = False) -> None:
    """Settles the rows that are on their way, in order; those that have arrived, or all."""
    pending: deque[tuple[int, PendingRow]] = own[PENDING]
    rows = own["log_history"]
    while pending and (pending[0][1].known or not only_known):
        place, row = pending[0]
        row.settle()
        if place < len(rows) and rows[place] is row:
            rows[place] = dict(row)
        pending.popleft()


class HistoryView(Sequence[dict[str, Any]]):
    """The first rows of an append-only history: what it held when the snapshot was taken."""

    __slots__ = ("_length", "_rows")

    def __init__(self, rows: list[dict[str, Any]], length: int) -> None:
        self._rows = rows
        self._length = length

    def __len__(self) -> int:
        return min(self._length, len(self._rows))

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [_frozen(row) for row in self._rows[: len(self)][index]]
        length = len(self)
        position = index + length if index < 0 else index
        if not 0 <= position < length:
            raise IndexError(f"row {index} of a history of {length} rows")
        return _frozen(self._rows[position])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (_frozen(self._rows[index]) for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    if isinstance(row, PendingRow):
        row.settle()
    return FrozenDict(row)
