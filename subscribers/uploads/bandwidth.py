"""Keeps what is sent below so many bytes a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...schemas.errors import ArgumentError

BYTES_PER_MB = 1_000_000


def check_limit(max_mb_per_s: float | None) -> None:
    """Refuses what is no limit.

    Raises:
        ArgumentError: it is not above 0.
    """
    if max_mb_per_s is not None and not max_mb_per_s > 0:
        raise ArgumentError(f"max_mb_per_s={max_mb_per_s!r}: give a number above 0, or None.")


class Bandwidth:
    """Has each block wait until those before it have had their time.

    In any span of time no more is let through than its length allows, and one block. What was not
    used is not saved up.

    Args:
        mb_per_s: megabytes (a million bytes) a second; no limit where None.
        wait: waits so many seconds.
        clock: monotonic time, s.
    """

    def __init__(
        self,
        mb_per_s: float | None,
        wait: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bytes_per_s = mb_per_s * BYTES_PER_MB if mb_per_s is not None else None
        self._wait = wait
        self._clock = clock
        self._free_at = clock()

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self._bytes_per_s is not None

    def take(self, num_bytes: int) -> None:
        """Waits until a block of so many bytes may be sent."""
        if self._bytes_per_s is None:
            return
        now = self._clock()
        begins = max(now, self._free_at)
        self._free_at = begins + num_bytes / self._bytes_per_s
        if begins > now:
            self._wait(begins - now)
