"""How often a process is replaced, and when its subscribers are given up."""

from __future__ import annotations

import signal

MOST_CRASHES = 3
"""A subscriber whose process crashes so often in a row, without it getting on, is given up."""
MOST_KILLS = 30
"""The same where somebody kills the process: none of its own doing."""
MOST_TIMED_OUT = 3
"""How often a subscriber whose handler takes too long is started again."""
MOST_REPLACEMENTS = 200
"""No process is replaced more often than this in all."""
LIVED_S = 10.0
"""A process that lived so long was none that dies at once."""
FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 5.0


def is_crash(status: int) -> bool:
    """Whether a process ended by its own fault, rather than by somebody's signal."""
    return status not in (-signal.SIGKILL, -signal.SIGTERM)


def most_in_a_row(status: int) -> int:
    """How many such ends in a row a subscriber survives that does not get on in between."""
    return MOST_CRASHES if is_crash(status) else MOST_KILLS


class Deaths:
    """Counts the deaths of one process and its replacements."""

    def __init__(self) -> None:
        self._num_deaths = 0
        self._num_quick = 0

    @property
    def too_many(self) -> bool:
        """Whether it is not to be replaced any more."""
        return self._num_deaths > MOST_REPLACEMENTS

    def count(self, lived_s: float) -> float:
        """Counts a death; how long to wait before the replacement is started, s."""
        self._num_deaths += 1
        if lived_s > LIVED_S:
            self._num_quick = 0
            return 0.0
        self._num_quick += 1
        if self._num_quick == 1:
            return 0.0
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (self._num_quick - 2))
