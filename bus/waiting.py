"""Waiting for subscribers with a deadline, and saying whom one waits for."""

from __future__ import annotations

import time
from collections.abc import Iterable

from .diagnostics import get_logger
from .worker import Worker

log = get_logger()

COUNTDOWN_AFTER_S = 2.0
COUNTDOWN_EVERY_S = 5.0
LONGEST_SLICE_S = 0.5


class Countdown:
    """The time left until a deadline (monotonic, s), told to the user while it runs."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._says_at = time.monotonic() + COUNTDOWN_AFTER_S

    def over(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self._deadline

    def slice_s(self) -> float:
        """How long to wait before the next look, s."""
        return max(0.0, min(self._deadline - time.monotonic(), LONGEST_SLICE_S))

    def say(self, workers: Iterable[Worker]) -> None:
        """Names those who are waited for, from time to time."""
        now = time.monotonic()
        if now < self._says_at:
            return
        self._says_at = now + COUNTDOWN_EVERY_S
        behind = [_standing(worker) for worker in workers if not worker.finished.is_set()]
        behind = [text for text in behind if text]
        if behind:
            left = self._deadline - now
            log.warning(f"waiting for subscribers: {', '.join(behind)}; {left:.0f} s to go")


def _standing(worker: Worker) -> str:
    name, mailbox = worker.subscription.name, worker.mailbox
    if worker.phase != "handlers":
        return f"{name} (in its {worker.phase})"
    left = mailbox.accepted - mailbox.settled
    return f"{name} ({left} events left)" if left else ""
