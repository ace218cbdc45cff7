"""The runs that a sidecar's trainer has open, to be closed as killed should it die."""

from __future__ import annotations

import time
from collections.abc import Iterable

from ...schemas import Event, RunFailed
from .messages import Message

KILLED = "Killed"
"""`RunFailed.error` of a run whose process was gone before it had ended."""

RunKey = tuple[str, int, int]
"""Run, attempt and rank."""


def run_of(event: Event) -> RunKey:
    """The run that an event belongs to."""
    return (event.run_id, event.attempt, event.rank)


class Endings:
    """The runs that have ended, by the events that somebody has seen."""

    def __init__(self) -> None:
        self._runs: set[RunKey] = set()

    def saw(self, events: Iterable[Event]) -> None:
        """Notes what ends, or begins again."""
        for event in events:
            if event.name in ("train_end", "run_failed"):
                self._runs.add(run_of(event))
            elif event.name == "train_begin":
                self._runs.discard(run_of(event))

    def __contains__(self, run: RunKey) -> bool:
        return run in self._runs


class OpenRuns:
    """Remembers open runs, how far each had come, and which have ended but for a last word."""

    def __init__(self) -> None:
        self._runs: dict[RunKey, Event | None] = {}
        self.ended = Endings()
        """Those that some subscriber in this process has seen the end of."""

    def note(self, message: Message) -> None:
        """Takes the news that a run was opened or closed."""
        run = (message["run_id"], message["attempt"], message["rank"])
        if message["open"]:
            self._runs.setdefault(run, None)
        else:
            self._runs.pop(run, None)

    def saw(self, events: Iterable[Event]) -> None:
        """Notes how far runs have come."""
        for event in events:
            if run_of(event) in self._runs:
                self._runs[run_of(event)] = event
        self.ended.saw(events)

    def killed(self, trainer: int) -> list[RunFailed]:
        """For each open run the event that closes it."""
        events = []
        for (run_id, attempt, rank), last in self._runs.items():
            event = RunFailed(
                run_id=run_id,
                attempt=attempt,
                rank=rank,
                time=time.time(),
                monotonic=time.monotonic(),
                step=last.step if last is not None else 0,
                epoch=last.epoch if last is not None else 0.0,
                error=KILLED,
                message=f"the training process {trainer} ended without closing the run",
                traceback="",
            )
            events.append(event.attach_state_of(last) if last is not None else event)
        return events
