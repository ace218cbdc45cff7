"""The events with which open runs began, for a subscriber that has to begin once more."""

from __future__ import annotations

from ...schemas import Event
from ...schemas.state import StateMark

BEGINNINGS = ("init_end", "train_begin")
ENDS = ("train_end", "run_failed")
MOST_RUNS = 16
"""Runs that are remembered; of several sessions the newest."""

RunKey = tuple[str, int, int]


class Beginnings:
    """Remembers how the runs began of which one subscriber has handled events.

    One that takes its place, since its process has died, would not know where a run writes, nor
    that there is one: it gets these events again, before what has not been handled.
    """

    def __init__(self) -> None:
        self._runs: dict[RunKey, dict[str, Event]] = {}
        self._states: dict[RunKey, StateMark] = {}

    def saw(self, event: Event) -> None:
        """Notes an event that has been handled."""
        run = (event.run_id, event.attempt, event.rank)
        captured: StateMark | None = getattr(event, "_captured", None)
        if captured is not None and run in self._runs:
            self._states[run] = captured
        if event.name in BEGINNINGS:
            events = self._runs.pop(run, {})
            self._runs[run] = {**events, event.name: event}
            while len(self._runs) > MOST_RUNS:
                oldest = next(iter(self._runs))
                del self._runs[oldest]
                self._states.pop(oldest, None)
        elif event.name in ENDS and run in self._runs:
            self._runs[run].pop("train_begin", None)

    def again(self) -> list[Event]:
        """The events that began what is open, each with the state at which its run goes on."""
        found = []
        for run, events in self._runs.items():
            state = self._states.get(run)
            for name in BEGINNINGS:
                if name in events:
                    copy = events[name].model_copy().attach_state_of(events[name])
                    if state is not None:
                        copy.attach_state(state)
                    found.append(copy.mark_again())
        return found
