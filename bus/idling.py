"""Steps at whose end no callback has anything to do, so that none is called."""

from __future__ import annotations

from typing import Any, Protocol

from ..schemas import TrainerState
from ..schemas.argument_assignment import ASSIGNMENTS


class Schedule(Protocol):
    """A callback that knows beforehand at which steps its `on_step_end` does something, by the
    arguments and the state alone."""

    def idle_until(self, args: Any, state: TrainerState) -> int:
        """The next step at whose end it has something to do."""


def schedule_of(callbacks: list[Any]) -> Schedule | None:
    """The schedule among those that listen to `step_end`, where it is the only one that does.

    A class that overrides `on_step_end` without `idle_until` is none.
    """
    if len(callbacks) != 1:
        return None
    (callback,) = callbacks
    if "on_step_end" in getattr(callback, "__dict__", {}):
        return None
    owner = next((c for c in type(callback).__mro__ if "on_step_end" in vars(c)), object)
    return callback if "idle_until" in vars(owner) else None


class Idling:
    """Tells of each step whether the schedule need not be called at its end.

    What it goes by may change at any time: the state, which is noticed by its frozen rest, made
    anew at every assignment, and the arguments, whose assignments are counted.
    """

    def __init__(self) -> None:
        self.schedule: Schedule | None = None
        self._until = 0
        self._rest: object = None
        self._assignments = 0

    def holds(self, state: TrainerState) -> bool:
        """Whether nothing is due at the end of the present step."""
        own = state.__dict__
        return (
            own["global_step"] < self._until
            and own["_rest"] is self._rest
            and ASSIGNMENTS.count == self._assignments
        )

    def look_ahead(self, args: Any, state: TrainerState) -> None:
        """Asks the schedule for the next step that it has something to do at."""
        if self.schedule is not None:
            self._assignments = ASSIGNMENTS.count
            self._until = self.schedule.idle_until(args, state)
            self._rest = state.rest()
