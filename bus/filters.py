"""Which events of a kind a subscription takes: `every=`, `once=`, `after=`, `interval_s=` ..."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection
from typing import Any

from ..schemas.errors import ArgumentError
from .checks import check_count, check_seconds

BY_STEP = frozenset(
    {"step_begin", "substep_end", "pre_optimizer_step", "optimizer_step", "step_end"}
)
BY_EPOCH = frozenset({"epoch_begin", "epoch_end"})


class Filter:
    """The number of an event decides, and then a predicate.

    Events of a step are numbered by their step (from 1), those of an epoch by their epoch (from
    1), all others by how often their kind has occurred in the run since the subscription began.
    So `every=100` of `step_end` is steps 100, 200, ... also after a resume, and `every=2` of
    `evaluate` is every second evaluation.

    Args:
        every: take those whose number is a multiple of it.
        once: True takes the first that passes the rest and then none in this run; a number takes
            that one alone.
        after: take those whose number is higher.
        before: take those whose number is lower.
        interval_s: take at most one of each kind in so many seconds; for displays.
        when: a predicate of the event; called where the handler runs.
        run_id: take those of this run, or of these runs; a set is looked at anew for each event.

    Raises:
        ArgumentError: a number that is not positive and whole, a predicate that is no function, or
            an empty run_id.
    """

    __slots__ = (
        "after",
        "always",
        "before",
        "every",
        "interval_s",
        "once",
        "only_by_time",
        "runs",
        "uncounted",
        "when",
    )

    def __init__(
        self,
        *,
        every: int | None = None,
        once: bool | int = False,
        after: int | None = None,
        before: int | None = None,
        interval_s: float | None = None,
        when: Callable[[Any], object] | None = None,
        run_id: str | Collection[str] | None = None,
    ) -> None:
        check_count("every", every, 1)
        check_count("after", after, 0)
        check_count("before", before, 1)
        if not isinstance(once, bool):
            check_count("once", once, 1)
        if when is not None and not callable(when):
            raise ArgumentError(f"when={when!r} is no function: give a predicate of the event.")
        check_seconds("interval_s", interval_s)
        if after is not None and before is not None and before - after < 2:
            raise ArgumentError(f"after={after} and before={before} leave no event between them.")
        self.every = every
        self.once = once
        self.after = after
        self.before = before
        self.interval_s = interval_s
        self.when = when
        numbers = (every, after, before, interval_s)
        self.uncounted = once is False and all(number is None for number in numbers)
        """Whether the number of an event does not matter."""
        self.only_by_time = once is False and interval_s is not None and numbers.count(None) == 3
        """Whether the time alone decides."""
        self.runs = _runs(run_id)
        self.always = self.uncounted and self.runs is None

    def admits(self, run_id: str) -> bool:
        """Whether events of a run can pass."""
        return self.runs is None or run_id in self.runs

    def of_runs(self, run_id: str | Collection[str]) -> Filter:
        """The same filter for some runs alone."""
        found = copy.copy(self)
        found.runs, found.always = _runs(run_id), False
        return found

    def takes(self, number: int, taken: int) -> bool:
        """Whether the event with this number passes, `taken` having passed in this run before."""
        if self.every is not None and number % self.every:
            return False
        if self.after is not None and number <= self.after:
            return False
        if self.before is not None and number >= self.before:
            return False
        if self.once is True:
            return taken == 0
        return self.once is False or number == self.once


def _runs(run_id: str | Collection[str] | None) -> Collection[str] | None:
    if run_id is None or (isinstance(run_id, Collection) and not isinstance(run_id, str)):
        return run_id
    if not isinstance(run_id, str) or not run_id:
        raise ArgumentError(f"run_id={run_id!r} is no run: give the run_id of one, or several.")
    return frozenset({run_id})


class FilterCounts:
    """How often each kind occurred, and passed, for one subscription in one run."""

    __slots__ = ("_last_s", "_seen", "_taken")

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._taken: dict[str, int] = {}
        self._last_s: dict[str, float] = {}

    def last_s(self, kind: str) -> float:
        """When the last event of a kind that an interval let pass was emitted (monotonic, s)."""
        return self._last_s.get(kind, -math.inf)

    def takes(self, chosen: Filter, kind: str, step: int, epoch: float, now: float = 0.0) -> bool:
        """Numbers an event and asks the filter; to be called once for each event of the kind.

        `now` is when the event was emitted (monotonic, s).
        """
        if kind in BY_STEP:
            # The step counter moves just before step_end; the events before it belong to the next.
            number = step if kind == "step_end" else step + 1
        elif kind in BY_EPOCH:
            # Sums of fractions may miss the whole number by a rounding error.
            epoch = round(epoch, 6)
            number = int(epoch) + 1 if kind == "epoch_begin" else max(1, math.ceil(epoch))
        else:
            number = self._seen[kind] = self._seen.get(kind, 0) + 1
        taken = self._taken.get(kind, 0)
        if not chosen.takes(number, taken):
            return False
        if chosen.interval_s is not None:
            if now - self._last_s.get(kind, -math.inf) < chosen.interval_s:
                return False
            self._last_s[kind] = now
        self._taken[kind] = taken + 1
        return True
