"""The states of runs as a sidecar puts them together again; see `sent_states`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...schemas import Event
from ...schemas.state import StateRest
from ...schemas.values import FrozenDict, freeze
from .messages import Message


class FarStates:
    """Gives events the states that they had where they were emitted."""

    def __init__(self) -> None:
        self._histories: dict[int, list[dict[str, Any]]] = {}
        self._values: dict[int, FrozenDict[str, Any]] = {}

    def add_rows(self, message: Message) -> None:
        """Takes further rows of a history."""
        self._histories.setdefault(message["source"], []).extend(message["rows"])

    def forget(self, message: Message) -> None:
        """Lets go of a history; events that have it already keep it."""
        self._histories.pop(message["source"], None)

    def attach(self, header: Message, events: Sequence[Event]) -> None:
        """Gives a subscriber's events their states, and the mark of those that come again."""
        to = header["to"]
        if header.get("again"):
            for event in events:
                event.mark_again()
        if "values" in header:
            self._values[to] = freeze(header["values"])
        if "source" not in header:
            return
        history = self._histories.setdefault(header["source"], [])
        rest = StateRest(self._values[to], history)
        rows = header["rows"]
        for index, event in enumerate(events):
            event.attach_state((rest, rows if isinstance(rows, int) else rows[index]))
