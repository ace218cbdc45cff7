"""The states of runs on their way through the log: what changed, written down and put together.

An event carries a reference to the frozen rest of its run's state and a number of rows. In the log
these are records of their own, written when they are others than those of the event before. What
JSON would not give back is kept as an object, and so are the histories, which only grow.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pydantic_core

from ..schemas import Event
from ..schemas.state import StateMark, StateRest
from ..schemas.values import FrozenDict, freeze
from .round_trip import same

KEPT_MOST = 1_000
"""Values of states that are kept as objects at a time; one beyond is missing in the snapshots."""

Values = dict[str, Any]


class Captured(NamedTuple):
    """What an event carries of the state."""

    source: int
    rest: StateRest
    num_rows: int


class Kept:
    """What JSON would not give back, by number; written by the pump, read by workers."""

    def __init__(self) -> None:
        self.values: dict[int, object] = {}
        self.histories: dict[int, list[dict[str, Any]]] = {}
        """The history of each source."""
        self._next = 0

    def keep(self, value: object) -> int | None:
        """The number of a value, or None where too many are kept already."""
        if len(self.values) >= KEPT_MOST:
            return None
        self._next += 1
        self.values[self._next] = value
        return self._next

    def clear(self) -> None:
        """Lets go of all; their numbers are not given again."""
        self.values.clear()
        self.histories.clear()


class StateWriter:
    """Tells how the state of each event differs from that of the one written before. For the pump.

    A source is a run, known by its history, the one list that it has for its whole life.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._sources: dict[int, Captured] = {}
        self._next_source = 0
        self._rest: StateRest | None = None
        self._num_rows = -1

    def change_to(self, event: Event) -> bytes | None:
        """The record that must go before an event, or None where its state is that of the last."""
        captured: StateMark | None = getattr(event, "_captured", None)
        if captured is None:
            if self._rest is None and self._num_rows == -1:
                return None
            self._rest, self._num_rows = None, -1
            return b"{}"
        rest, num_rows = captured
        if rest is self._rest and num_rows == self._num_rows:
            return None
        former = self._sources.get(id(rest.history))
        change: Values = {"rows": num_rows}
        if former is None:
            self._next_source += 1
            change["source"] = self._next_source
            self._kept.histories[self._next_source] = rest.history
            change |= self._difference({}, rest.values)
        else:
            change["source"] = former.source
            if rest is not former.rest:
                change |= self._difference(former.rest.values, rest.values)
        self._sources[id(rest.history)] = Captured(change["source"], rest, num_rows)
        self._rest, self._num_rows = rest, num_rows
        return pydantic_core.to_json(change)

    def base(self) -> tuple[dict[int, StateRest], int, int]:
        """What a reader that begins here must know: the sources, and the last one with its rows."""
        rests = {c.source: c.rest for c in self._sources.values()}
        if self._rest is None:
            return rests, 0, 0
        return rests, self._sources[id(self._rest.history)].source, self._num_rows

    def forget(self) -> None:
        """Lets go of all sources: nobody reads on."""
        self._sources.clear()
        self._rest, self._num_rows = None, -1

    def _difference(self, former: Values, values: Values) -> Values:
        changed: Values = {}
        kept: dict[str, int] = {}
        gone = [name for name in former if name not in values]
        for name, value in values.items():
            if name in former and former[name] is value:
                continue
            if _is_exact(value):
                changed[name] = value
                continue
            number = self._kept.keep(value)
            if number is not None:
                kept[name] = number
            else:
                gone.append(name)
        parts = {"values": changed, "kept": kept, "gone": gone}
        return {name: part for name, part in parts.items() if part}


class StateReader:
    """Puts the states together again that `StateWriter` took apart. For one worker."""

    def __init__(self, base: tuple[dict[int, StateRest], int, int], kept: Kept) -> None:
        self._rests, self._source, self._num_rows = base
        self._kept = kept

    def apply(self, payload: bytes) -> None:
        """Takes in a record."""
        change: Values = pydantic_core.from_json(payload)
        self._source = source = change.get("source", 0)
        if not source:
            return
        self._num_rows = change["rows"]
        former = self._rests.get(source)
        if former is None:
            former = StateRest(FrozenDict({}), self._kept.histories.get(source, []))
        elif not ("values" in change or "kept" in change or "gone" in change):
            return
        values = {**former.values, **freeze(change.get("values", {}))}
        for name, number in change.get("kept", {}).items():
            values[name] = self._kept.values.get(number)
        for name in change.get("gone", ()):
            values.pop(name, None)
        self._rests[source] = StateRest(FrozenDict(values), former.history)

    def attach(self, event: Event) -> Event:
        """Gives an event the state that its record in the log had."""
        rest = self._rests.get(self._source)
        return event if rest is None else event.attach_state((rest, self._num_rows))


def _is_exact(value: object) -> bool:
    """Whether a value comes back from its JSON as it was."""
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return True
    if kind is float:
        return math.isfinite(value)  # type: ignore[arg-type]
    try:
        return same(freeze(pydantic_core.from_json(pydantic_core.to_json(value))), value)
    except Exception:
        return False
