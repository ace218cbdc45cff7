"""A training in a thread of its own, and what the host that waits for it asks of its runs."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from contextvars import ContextVar
from typing import Literal

from ..bus import RunLink
from ..bus.diagnostics import get_logger
from ..schemas import Action, Vote
from ..schemas.errors import ArgumentError

log = get_logger()

OnCancel = Literal["stop", "save"]
VOTER = "the host"


class Hosted:
    """What a host and the runs that it waits for know of each other.

    Runs find it in the context of their thread, so whatever loop opens them is told to stop.

    Args:
        on_cancel: what a cancellation asks for: "stop", or "save", which saves and stops.
        stop_timeout: how long the host then waits, s.

    Raises:
        ArgumentError: another word, or a time that is not positive.
    """

    def __init__(self, on_cancel: OnCancel, stop_timeout: float) -> None:
        if on_cancel not in ("stop", "save"):
            raise ArgumentError(f"on_cancel={on_cancel!r}: give 'stop', or 'save' to save as well.")
        if not stop_timeout > 0:
            raise ArgumentError(f"stop_timeout={stop_timeout!r}: give seconds above 0.")
        self.stop_timeout = stop_timeout
        self._actions: tuple[Action, ...] = ("save", "stop") if on_cancel == "save" else ("stop",)
        self._lock = threading.Lock()
        self._links: list[RunLink] = []
        self._why = ""
        self._cancelled_s: float | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the host was cancelled."""
        return self._cancelled_s is not None

    def opened(self, link: RunLink) -> None:
        """A run was opened; where the host was cancelled before, it is told at once."""
        with self._lock:
            self._links.append(link)
            if self.cancelled:
                self._tell(link)

    def closed(self, link: RunLink) -> None:
        """A run has ended."""
        with self._lock:
            self._links.remove(link)

    def cancel(self, why: str) -> None:
        """Has all runs stop at their next merge point, those that are still to be opened too."""
        with self._lock:
            self._why = why
            self._cancelled_s = time.monotonic()
            for link in self._links:
                self._tell(link)

    def left_s(self) -> float | None:
        """What is left of the time that the host waits, s; None while it was not cancelled."""
        if self._cancelled_s is None:
            return None
        return max(0.0, self.stop_timeout - (time.monotonic() - self._cancelled_s))

    def leave_behind(self, thread: threading.Thread) -> None:
        """Says that the host goes on without the thread, and where that one is; on record too."""
        frame = sys._current_frames().get(thread.ident or 0)
        where = "".join(traceback.format_stack(frame)[-6:]) if frame is not None else ""
        with self._lock:
            runs = ", ".join(f"run {link.run_id}" for link in self._links) or "no run open yet"
            for link in self._links:
                link.account.left_behind = thread.name
        log.error(
            f"{thread.name} ({runs}) was cancelled and has not stopped for {self.stop_timeout:g} "
            "s: its host goes on without it. It ends after its present step, or never if that does "
            f"not return.\n{where}"
        )

    def _tell(self, link: RunLink) -> None:
        for action in self._actions:
            critical = action == "stop"
            link.votes.post(Vote(action, voter=VOTER, reason=self._why, critical=critical))


HOSTED: ContextVar[Hosted | None] = ContextVar("stepbus_hosted", default=None)
"""What waits for the training of this context; None where nothing does."""
