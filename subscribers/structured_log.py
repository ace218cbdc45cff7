"""Events as structlog entries, for whatever the program does with its logs."""

from __future__ import annotations

from typing import Any

import structlog

from ..schemas import Artifact, Event
from ..schemas.event import event_class
from .reporter import Reporter

LEVELS = {
    "run_failed": "error",
    "stalled": "warning",
    "subscriber_behind": "warning",
    "subscriber_failed": "warning",
}
"""Levels of the kinds that are no information only."""
_LEFT_OUT = {"name", "schema_version", "monotonic"}
_CONTENT = {"data", "text", "columns", "rows"}
"""What an artifact holds, which is for trackers."""


class EventEntries(Reporter):
    """The base of subscribers that write events as structlog entries.

    The name of the event is the entry's `event`, its fields are the entry's keys. structlog is
    configured by the program.

    Args:
        logger: where to write; the structlog logger "stepbus.events" by default.
    """

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger if logger is not None else structlog.get_logger("stepbus.events")

    def _write(self, event: Event) -> None:
        left_out = _LEFT_OUT | _CONTENT if isinstance(event, Artifact) else _LEFT_OUT
        fields = event.model_dump(exclude=left_out)
        getattr(self._logger, LEVELS.get(event.name, "info"))(event.name, **fields)


class StructuredLog(EventEntries):
    """Writes what happens a few times in a run, but nothing that happens at every step.

    `StructuredLog.of("step_end", "log")` writes the events that it names instead.
    """

    on_train_begin = EventEntries._write
    on_train_end = EventEntries._write
    on_run_failed = EventEntries._write
    on_log = EventEntries._write
    on_evaluate = EventEntries._write
    on_predict = EventEntries._write
    on_artifact = EventEntries._write
    on_save = EventEntries._write
    on_verdict = EventEntries._write
    on_subscriber_failed = EventEntries._write
    on_subscriber_behind = EventEntries._write
    on_stalled = EventEntries._write
    on_resumed = EventEntries._write
    on_batch_size_retry = EventEntries._write

    @staticmethod
    def of(*events: str | type[Event], logger: Any = None) -> EventEntries:
        """A structured log of the events of these kinds alone; "*" stands for all.

        Raises:
            ArgumentError: no event has that name.
        """
        names = ["event" if event == "*" else _kind(event) for event in events]
        handlers = {f"on_{name}": EventEntries._write for name in names}
        chosen: type[EventEntries] = type("StructuredLog", (EventEntries,), handlers)
        return chosen(logger)


def _kind(event: str | type[Event]) -> str:
    return str(event_class(event).model_fields["name"].default)
