"""A sidecar as the trainer holds it: a process, and two pipes that are never waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ...schemas.errors import DeliveryError
from .messages import Lines, Message, decode, encode
from .sent_states import SentHistories

NICE = 19
START = Path(__file__).with_name("start.py")
READ_BYTES = 1 << 18
MOST_UNSENT = 1 << 18
"""With more bytes than this waiting for the pipe, nothing more is written."""


class Spawned:
    """A running process that serves subscribers.

    Args:
        folder: its working directory, the trainer's; None where that is gone.
        hurried: at the trainer's own priority, until `step_back`: the trainer waits for it.

    Raises:
        DeliveryError: it cannot be started.
    """

    def __init__(self, folder: str | None, *, hurried: bool = False) -> None:
        if not sys.executable:
            raise DeliveryError(
                "delivery='process' needs to know which Python to start, and sys.executable is "
                "empty: set it, or use delivery='thread'."
            )
        nice = "0" if hurried else str(NICE)
        feed, self._feed = os.pipe()
        self._back, back = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, *_flags(), str(START), str(feed), str(back), nice],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                # What trackers print goes to the error stream: it outlives the trainer, and
                # nothing has to read it.
                stdout=_error_stream(),
                pass_fds=(feed, back),
                # In the trainer's session, where being nice to it means something, and out of
                # reach of its terminal's Ctrl-C.
                process_group=0,
            )
        except OSError as error:
            self.let_go_of_pipes()
            raise DeliveryError(f"the subscribers' process cannot be started: {error}.") from error
        finally:
            os.close(feed)
            os.close(back)
        os.set_blocking(self._feed, False)
        os.set_blocking(self._back, False)
        self.pid = self._process.pid
        self.started_s = time.monotonic()
        self.histories = SentHistories()
        """What it has of the runs' histories."""
        self._lines = Lines()
        self._unsent = b""
        self.silent = False
        """Whether it has closed its end of the pipe: it is about to be gone."""
        self._send(
            encode(
                "start",
                trainer=os.getpid(),
                path=[entry for entry in sys.path if isinstance(entry, str)],
                program=sys.argv[0] if sys.argv else "",
            )
        )

    @property
    def descriptors(self) -> tuple[int, int]:
        """The trainer's ends: to write to, and to read from."""
        return self._feed, self._back

    @property
    def writing(self) -> bool:
        """Whether bytes wait for room in the pipe."""
        return bool(self._unsent)

    @property
    def has_room(self) -> bool:
        """Whether more may be written."""
        return len(self._unsent) < MOST_UNSENT

    def write(self, data: bytes) -> None:
        """Sends bytes, as many as the pipe takes; the rest later. Never waits, never fails."""
        self._send(self._unsent + data if self._unsent else data)

    def flush(self) -> None:
        """Sends what waits for room."""
        if self._unsent:
            self._send(self._unsent)

    def _send(self, data: bytes) -> None:
        try:
            sent = os.write(self._feed, data)
        except BlockingIOError:
            sent = 0
        except OSError:  # It is gone, which `exit_status` will tell.
            sent = len(data)
        self._unsent = data[sent:]

    def read(self) -> list[Message]:
        """What has come back."""
        messages: list[Message] = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._back, READ_BYTES):
                messages += [decode(line) for line in self._lines.add(data)]
            self.silent = True
        return messages

    def step_back(self) -> None:
        """Leaves the processor to the training: its time of set-up is over."""
        with contextlib.suppress(OSError):
            # All of its threads, and what it has started: priorities belong to threads on Linux.
            os.setpriority(os.PRIO_PGRP, self.pid, NICE)

    def exit_status(self) -> int | None:
        """How the process ended, negative for a signal; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Ends the process at once, and takes note of it."""
        with contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)

    def let_go_of_pipes(self) -> None:
        """Closes the trainer's ends."""
        descriptors, self._feed, self._back = (self._feed, self._back), -1, -1
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def make_inert(self) -> None:
        """Forgets the process in a forked child, which is not its parent."""
        self.let_go_of_pipes()
        self._process.returncode = 0


def how_it_ended(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _flags() -> list[str]:
    """This interpreter's own switches (-X, -W, -O, ...), as multiprocessing passes them on."""
    flags = getattr(subprocess, "_args_from_interpreter_flags", None)
    return list(flags()) if flags is not None else []


def _error_stream() -> int:
    try:
        os.fstat(2)
    except OSError:
        return subprocess.DEVNULL
    return 2
