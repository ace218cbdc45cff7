"""Subscribers that harm whoever calls them: one sleeps, one burns the interpreter's time."""

from __future__ import annotations

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
