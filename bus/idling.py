"""Steps at whose end no callback need be called: nothing is due, or a log alone."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from ..schemas import TrainerState
from ..schemas.argument_assignment import ASSIGNMENTS

NOTHING, LOG_ALONE, CALL = range(3)
"""What is due at the end of a step: nothing, a log and nothing else, or to ask the schedule."""


class Due(NamedTuple):
    """The next steps at whose end a schedule sets flags."""

    log: int
    """The next at which it sets `should_log` and nothing else, if that is before `other`."""
    log_steps: int
    """From there on it does so again after each so many steps, until `other`; 0: it is to be asked
    again."""
    other: int
    """The next at which it sets anything else, or which it would have to be asked about."""


class Schedule(Protocol):
    """A callback that knows beforehand at which steps its `on_step_end` does something, by the
    arguments and the state alone."""

    def next_due(self, args: Any, state: TrainerState) -> Due:
        """When it sets flags next."""


def schedule_of(callbacks: list[Any]) -> Schedule | None:
    """The schedule among those that listen to `step_end`, where it is the only one that does.

    A class that overrides `on_step_end` without `next_due` is none.
    """
    if len(callbacks) != 1:
        return None
    (callback,) = callbacks
    if "on_step_end" in getattr(callback, "__dict__", {}):
        return None
    owner = next((c for c in type(callback).__mro__ if "on_step_end" in vars(c)), object)
    return callback if "next_due" in vars(owner) else None


class Idling:
    """Tells of each step whether the schedule need not be called at its end.

    What it goes by may change at any time: the state, which is noticed by its frozen rest, made
    anew at every assignment, and the arguments, whose assignments are counted.
    """

    def __init__(self) -> None:
        self.schedule: Schedule | None = None
        self._due = Due(0, 0, 0)
        self._until = 0
        self._then = CALL
        self._rest: object = None
        self._assignments = 0

    def due(self, state: TrainerState) -> int:
        """What is due at the end of the present step: `NOTHING`, `LOG_ALONE` or `CALL`."""
        own = state.__dict__
        step: int = own["global_step"]
        if (
            step > self._until
            or own["_rest"] is not self._rest
            or ASSIGNMENTS.count != self._assignments
        ):
            return CALL
        return NOTHING if step < self._until else self._then

    def look_ahead(self, args: Any, state: TrainerState) -> None:
        """Asks the schedule for the next step that it has something to do at."""
        if self.schedule is not None:
            self._assignments = ASSIGNMENTS.count
            self._rest = state.rest()
            self._await(self.schedule.next_due(args, state))

    def go_on(self) -> None:
        """Notes that the log that was due has been made."""
        log, every, other = self._due
        if every:
            self._await(Due(log + every, every, other))
        else:
            self._until = 0

    def _await(self, due: Due) -> None:
        self._due = due
        self._until = min(due.log, due.other)
        self._then = LOG_ALONE if due.log < due.other else CALL
