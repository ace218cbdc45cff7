"""Subscribers that harm whoever calls them: one sleeps, one burns the interpreter's time."""

from __future__ import annotations

import os
import signal
import time

from stepbus import StepEnd, Subscriber

SLEEP_S = 0.020
BURN_S = 0.005


def sleep() -> None:
    """Waits 20 ms, as for a server."""
    time.sleep(SLEEP_S)


def burn() -> None:
    """Works 5 ms in pure Python, as a logger does that formats and compresses."""
    end = time.perf_counter() + BURN_S
    while time.perf_counter() < end:
        pass


class Sleeper(Subscriber):
    """Sleeps at each step."""

    def on_step_end(self, event: StepEnd) -> None:
        """Sleeps."""
        sleep()


class Burner(Subscriber):
    """Burns Python time at each step."""

    def on_step_end(self, event: StepEnd) -> None:
        """Burns."""
        burn()


class Mortal(Subscriber):
    """Has its own process killed after every so many steps; for delivery in a process alone.

    Args:
        after: steps from one death to the next; 0 for none.
    """

    def __init__(self, after: int = 0) -> None:
        self._after = after
        self._count = 0

    def on_step_end(self, event: StepEnd) -> None:
        """Counts, and ends the process when it is time."""
        self._count += 1
        if self._count == self._after:
            os.kill(os.getpid(), signal.SIGKILL)
