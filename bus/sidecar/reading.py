"""Events as a sidecar reads them: a header, and lines of JSON."""

from __future__ import annotations

import pydantic_core

from ...schemas import Event, UnknownEvent
from ...schemas.errors import ArgumentError
from ...schemas.event import parse_event
from ..diagnostics import get_logger
from .messages import Message

log = get_logger()


class EventLines:
    """Gathers the lines that follow a header."""

    def __init__(self) -> None:
        self.expected = 0
        """How many lines are still to come."""
        self._header: Message = {}
        self._events: list[Event] = []

    @property
    def num_waiting(self) -> int:
        """How many events have been read of a batch that is not whole yet."""
        return len(self._events)

    def begin(self, header: Message) -> None:
        """Takes a header."""
        self.expected = header["count"]
        self._header = header

    def add(self, line: bytes) -> None:
        """Takes a line."""
        self.expected -= 1
        self._events.append(read_event(line))

    def take(self) -> tuple[Message, list[Event]]:
        """The header of the batch, and its events."""
        events, self._events, self.expected = self._events, [], 0
        return self._header, events


def read_event(line: bytes) -> Event:
    """The event in a line; one that does not fit its class comes as an UnknownEvent."""
    try:
        return parse_event(line)
    except ArgumentError as error:
        values = pydantic_core.from_json(line)
        log.warning(f"an event {values.get('name')!r} cannot be read in the sidecar: {error}")
        return UnknownEvent(**{"name": "unknown", **values})
