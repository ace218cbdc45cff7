"""Messages that wait to be posted: in order, tried again, and those that were lost are known."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ...bus.diagnostics import get_logger
from ...schemas.errors import DeliveryError
from ..uploads.interruption import FIRST_DELAY_S, LONGEST_DELAY_S
from .message import Message
from .posting import NoAnswer, Refused

log = get_logger()

MOST_KEPT = 1_000
"""Messages that wait at most; the oldest is given up for a new one."""
PATIENCE_S = 0.05
"""How long one look at a request takes at most."""
STALE_S = 1.0
"""A request that was begun before the end of the run, and is older, is made anew at the end: what
keeps it may be its connection alone, and the time at the end is short."""


class Attempt(Protocol):
    """A request under way, as `posting.Request` is one."""

    def wait(self, seconds: float) -> bool:
        """Waits for its end; whether it has come."""

    def result(self) -> None:
        """Raises what went wrong."""


class Outbox:
    """Posts messages in order, and is never waited for long: it is to be called again and again.

    Args:
        start: begins to post one.
        tries: how often the first of those that wait is tried once no run is open any more; before
            that, until it is taken.
        shown: the address, for messages.
        clock: monotonic time, s.
    """

    def __init__(
        self,
        start: Callable[[Message], Attempt],
        tries: int,
        shown: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.since_s: float | None = None
        """When the first of those that wait came, on `time.monotonic()`; None while none does."""
        self.lost: list[str] = []
        """Those that were given up, each with the reason."""
        self.at_the_end = False
        """Whether no run is open."""
        self._start = start
        self._tries = tries
        self._shown = shown
        self._clock = clock
        self._waiting: deque[Message] = deque()
        self._failures = 0
        self._again_s = 0.0
        self._attempt: Attempt | None = None
        self._begun_s = 0.0
        self._ended_s = -math.inf
        self._unsaid: list[str] = []

    @property
    def waiting(self) -> list[str]:
        """What those that wait are called."""
        return [message.label for message in self._waiting]

    def put(self, message: Message) -> None:
        """Takes one more."""
        if self.since_s is None:
            self.since_s = self._clock()
        if len(self._waiting) == MOST_KEPT:
            self._attempt = None
            self._lose("too many waited")
        self._waiting.append(message)

    def try_at_once(self) -> None:
        """Begins anew with the tries, since a run has ended."""
        self._failures, self._again_s, self._ended_s = 0, 0.0, self._clock()

    def send(self) -> float | None:
        """Posts what waits, as far as it is taken; after how many seconds to call it again.

        Raises:
            DeliveryError: some were given up, and none waits any more.
        """
        while self._waiting:
            now = self._clock()
            if self._attempt is None:
                if self._again_s > now:
                    return self._again_s - now
                self._attempt, self._begun_s = self._start(self._waiting[0]), now
            if not self._attempt.wait(PATIENCE_S):
                if self._begun_s < self._ended_s and self._clock() - self._begun_s > STALE_S:
                    self._attempt = None
                    continue
                return 0.0
            attempt, self._attempt = self._attempt, None
            try:
                attempt.result()
            except Refused as error:
                self._lose(str(error))
            except NoAnswer as error:
                self._failures += 1
                if self.at_the_end and self._failures >= self._tries:
                    while self._waiting:
                        self._lose(str(error))
                else:
                    self._wait(error)
            else:
                self._waiting.popleft()
                if self._failures:
                    log.warning(f"{self._shown} answers again.")
                self._failures = 0
        self.since_s = None
        unsaid, self._unsaid = self._unsaid, []
        if unsaid:
            raise DeliveryError(f"not posted to {self._shown}: {', '.join(unsaid)}")
        return None

    def _wait(self, error: NoAnswer) -> None:
        delay_s = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(self._failures - 1, 10))
        delay_s = max(delay_s, error.pause_s)
        self._again_s = self._clock() + delay_s
        if self._failures == 1:
            log.warning(
                f"{self._waiting[0].label} could not be posted to {self._shown} ({error}): tried "
                f"again in {delay_s:g} s, and then less and less often."
            )

    def _lose(self, why: str) -> None:
        named = f"{self._waiting.popleft().label}: {why}"
        self.lost.append(named)
        self._unsaid.append(named)
        del self.lost[:-MOST_KEPT], self._unsaid[:-MOST_KEPT]
