"""The thread that writes the log down, and what becomes of it when the disk takes nothing."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from ..diagnostics import get_logger
from .scratch import Scratch

if TYPE_CHECKING:
    from .event_log import EventLog

log = get_logger()

TICK_S = 0.020
"""Between two writes."""
RETRY_S = 2.0
"""Before the disk is tried again after an error."""
IDLE_S = 1.0
"""With nothing to write for so long the thread ends."""
BATCH = 256
"""Records in one write, after which other threads get the interpreter lock."""
BATCH_BEHIND = 4_096
"""The same while more than that wait."""


class Writer:
    """Writes what a log has in memory, a write a tick, in a thread that ends when idle."""

    def __init__(self, event_log: EventLog, kept: Path | None, scratch: Scratch) -> None:
        self.failing = ""
        """Why the disk takes nothing now; empty while it does."""
        self._log = event_log
        self._kept = kept
        self._scratch = scratch
        self._lock = threading.Lock()
        self._attention = threading.Event()
        self._awake = False
        self._thread: threading.Thread | None = None
        self._ending = False
        self._closed = False
        self._tidy = False

    @property
    def folder(self) -> Path | None:
        """Where the segments lie; None before there is one."""
        return self._kept or self._scratch.folder

    def attend(self, *, hurry: bool = False) -> None:
        """Has what waits written: at the next tick, or at once."""
        if self._awake and not hurry:
            return
        with self._lock:
            self._awake = True
            self._closed = False
            self._attention.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stepbus-log", daemon=True)
                self._thread.start()

    def tidy(self, *, unread: bool) -> None:
        """Deletes what no cursor needs any more of a temporary log."""
        if self._closed:
            if unread:
                self.remove_folder()
            return
        self._tidy = True
        self.attend()

    def end(self, timeout: float) -> None:
        """Writes what waits, if the disk takes it, and ends the thread."""
        with self._lock:
            thread, self._ending = self._thread, True
            self._attention.set()
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                log.error(f"the disk of {self.folder} does not answer: its log is left behind.")
        with self._lock:
            self._ending = False
            self._closed = True

    def remove_folder(self) -> None:
        """Deletes a temporary log."""
        self._log.segments.delete_all()
        self._scratch.remove()

    def make_inert(self) -> None:
        """In a forked child."""
        self._lock = threading.Lock()
        self._attention = threading.Event()
        self._thread = None
        self._closed = True
        self._log.segments.make_inert()
        self._scratch.make_inert()

    def _run(self) -> None:
        # What started the thread is no hurry.
        self._attention.clear()
        while True:
            while self._has_work():
                if not self._ending:
                    self._attention.wait(RETRY_S if self.failing else TICK_S)
                self._attention.clear()
                self._work()
                if self._ending and self.failing:
                    break
            self._awake = False
            # What was appended before that woke nobody.
            if self._has_work() and not (self._ending and self.failing):
                self._awake = True
                continue
            if not self._ending and self._attention.wait(IDLE_S):
                self._attention.clear()
                self._awake = True
                continue
            with self._lock:
                if self._ending or not (self._attention.is_set() or self._has_work()):
                    self._thread = None
                    break
        if self._kept is not None:
            with contextlib.suppress(OSError):
                self._log.segments.end_segment(sync=True)

    def _has_work(self) -> bool:
        return self._tidy or bool(self._log.num_unwritten)

    def _work(self) -> None:
        event_log = self._log
        self._tidy = False
        low = event_log.passed()
        if event_log.temporary:
            event_log.segments.delete_before(low)
            if not event_log.num_cursors:
                event_log.segments.delete_all()
        while waiting := event_log.num_unwritten:
            batch = event_log.next_batch(BATCH if waiting <= BATCH_BEHIND else BATCH_BEHIND)
            try:
                folder = self._kept or self._scratch.make()
                if self._kept is None and event_log.segments.ends_here:
                    self._scratch.check_room(event_log.segments.segment_bytes)
                event_log.segments.write(folder, batch)
            except OSError as error:
                self._failed(error)
                return
            event_log.settle(batch[-1].at)
            self._succeeded()
        self._succeeded()

    def _failed(self, error: OSError) -> None:
        if self._scratch.removed:
            return  # The program ends, and its temporary log with it.
        first = not self.failing
        self.failing = str(error)
        if first:
            where = self.folder or "the temporary folder"
            what = "free space on that disk"
            if self._kept is None:
                what += ", or start with TMPDIR set to a folder on a larger one"
            log.error(
                f"the log cannot be written to {where}: {error}. The run goes on, and writing is "
                f"tried again every {RETRY_S:.0f} s; until then events for consumers that fell "
                f"behind wait in memory, and are dropped beyond "
                f"{self._log.memory_bytes >> 20} MB: {what}."
            )

    def _succeeded(self) -> None:
        if self.failing:
            self.failing = ""
            lost = self._log.num_dropped
            log.warning(
                f"the log in {self.folder} is written again; {lost} records were lost so far."
            )
