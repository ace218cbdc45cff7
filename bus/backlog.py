"""Tells a backlog that grows steadily from one that comes and goes."""

from __future__ import annotations

import itertools
import math
from collections import deque
from typing import Literal, NamedTuple

SPACINGS_S = (1.0, 10.0, 120.0)
"""Between two looks that are compared, s: one that takes half a minute an event is seen by the
last."""
NUM_MARKS = 6
"""Looks that are compared at once, so a backlog grows for five spacings before it is named."""
LEAST_WAITING = 10
LEAST_GROWTH = 3
LEAST_WORK_S = 2.0
"""A backlog of fewer events, of fewer more than before, or of less work than this is none."""
NO_WORK_S = 0.5
"""A backlog of less work than this has been caught up with."""

Change = Literal["", "behind", "caught up"]


class Mark(NamedTuple):
    """A mailbox at one moment."""

    at_s: float
    arrived: int
    """Events that have come so far."""
    worked: int
    """Events that were dealt with so far."""
    waiting: int


class Pace(NamedTuple):
    """How fast events come, and how fast they are handled."""

    arriving: float
    """Events a second."""
    handled: float
    """Events a second."""
    waiting: int
    seconds: float
    """The time over which this was measured."""

    @property
    def work_s(self) -> float:
        """How long what waits will take, s."""
        return self.waiting / self.handled if self.handled else math.inf


class Backlog:
    """Watches one mailbox; to be shown it several times a second.

    It is behind once events have come faster than they were handled for five spacings, in the last
    two of them without exception. A burst, or a first call that takes long, is over by then. It
    has caught up when a quarter of its most is left, or next to nothing.
    """

    def __init__(self) -> None:
        self.pace: Pace | None = None
        """How it stood when it was seen to be behind; None while it is not."""
        self._windows = [(spacing, deque[Mark](maxlen=NUM_MARKS)) for spacing in SPACINGS_S]
        self._most = 0

    def look(self, mark: Mark) -> Change:
        """Takes in how it stands; says when it begins to fall behind, and when that is over."""
        due = [window for window in self._windows if self._add(*window, mark)]
        if self.pace is not None:
            self._most = max(self._most, mark.waiting)
            if not self._has_caught_up(mark):
                return ""
            self.pace = None
            for _, marks in self._windows:
                marks.clear()
            return "caught up"
        for spacing, marks in due:
            pace = _pace(marks)
            if _grows(marks, pace, may_stand=spacing > SPACINGS_S[0]):
                self.pace, self._most = pace, mark.waiting
                return "behind"
        return ""

    def _add(self, spacing: float, marks: deque[Mark], mark: Mark) -> bool:
        since_s = mark.at_s - marks[-1].at_s if marks else math.inf
        if since_s < spacing:
            return False
        if since_s > 2.5 * spacing:
            # Nobody has looked meanwhile: what was before says nothing of now.
            marks.clear()
        marks.append(mark)
        return True

    def _has_caught_up(self, mark: Mark) -> bool:
        if mark.waiting < LEAST_WAITING // 2 or mark.waiting * 4 <= self._most:
            return True
        marks = self._windows[0][1]
        return len(marks) > 1 and _pace(marks)._replace(waiting=mark.waiting).work_s < NO_WORK_S


def _pace(marks: deque[Mark]) -> Pace:
    first, last = marks[0], marks[-1]
    seconds = max(last.at_s - first.at_s, 1e-9)
    return Pace(
        (last.arrived - first.arrived) / seconds,
        (last.worked - first.worked) / seconds,
        last.waiting,
        seconds,
    )


def _grows(marks: deque[Mark], pace: Pace, *, may_stand: bool) -> bool:
    if len(marks) < NUM_MARKS:
        return False
    waiting = [mark.waiting for mark in marks]
    grew = [later > sooner for sooner, later in itertools.pairwise(waiting)]
    return (
        all(grew[-2:])
        and sum(grew) >= NUM_MARKS - 2
        and waiting[-1] >= LEAST_WAITING
        and waiting[-1] - waiting[0] >= LEAST_GROWTH
        and pace.arriving > pace.handled
        and (pace.handled > 0 or may_stand)
        and pace.work_s >= LEAST_WORK_S
    )
