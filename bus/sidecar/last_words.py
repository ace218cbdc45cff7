"""What a sidecar says: through the trainer while it lives, on the error stream afterwards."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import time
from collections.abc import Callable

LOGGER = "stepbus"
AFTER_DEATH_S = 4.0
"""How long a sidecar outlives its trainer at most."""
BY_FORCE_S = 0.5
"""How long before that it stops waiting for its subscribers."""


class _ToTrainer(logging.Handler):
    """Sends stepbus's own messages to the trainer, whose logging is configured by its user."""

    def __init__(self, send: Callable[..., None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Sends a message."""
        text = self.format(record).removeprefix("stepbus: ")
        self._send("say", level=record.levelno, text=text)


def hand_to(send: Callable[..., None]) -> None:
    """Has stepbus's own messages of this process sent to the trainer."""
    logger = logging.getLogger(LOGGER)
    logger.addHandler(_ToTrainer(send))
    logger.propagate = False


def leave_by_force_after() -> float:
    """Has this process end in AFTER_DEATH_S, whatever happens; when to be ready (monotonic, s)."""
    logging.getLogger(LOGGER).handlers = []
    # A thread of C code: it ends the process though a handler keeps the interpreter lock.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    faulthandler.dump_traceback_later(AFTER_DEATH_S, exit=True, file=nowhere)
    return time.monotonic() + AFTER_DEATH_S - BY_FORCE_S


def tell_orphan(trainer: int, run_ids: list[str], late: list[str]) -> None:
    """Says on the error stream what became of the runs of a trainer that is dead."""
    runs = f" closed {', '.join(run_ids)} as killed," if run_ids else ""
    left = f" left {', '.join(late)} behind," if late else ""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(
            f"stepbus: the training process {trainer} is gone: its sidecar handled what it had,"
            f"{runs}{left} and ends.\n"
        )
        sys.stderr.flush()
