"""Time as the bus sees it, so that tests can turn the clock themselves."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the bus asks of a clock. Waiting is always real; only reading is replaceable."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    def time(self) -> float:
        """Wall time, seconds since 1970."""


class SystemClock:
    """The machine's own clock."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
