"""However a measurement is left, no process of it stays behind: frozen ones would stay for ever."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from ..exit_codes import TERMINATED

_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def cleanly_on_sigterm() -> Iterator[None]:
    """Has SIGTERM leave a with block as an exception does, so that what it started is ended.

    On the main thread only, and where nobody else handles the signal.
    """
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def end_with(parent: int) -> None:
    """Has this process killed when its parent ends, however that ends, and even while it is frozen.

    On Linux alone; what it started learns of its death as of any.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It had ended before.
        os.kill(os.getpid(), signal.SIGKILL)
