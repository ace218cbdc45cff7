"""How much memory this process has resident."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def forget_most() -> None:
    """Starts anew to note the most that there was, where the kernel can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def now_mb() -> float:
    """At this moment, MB; where the kernel does not tell, the most so far."""
    return _status_mb("VmRSS") or most_mb()


def most_mb() -> float:
    """The most there was since `forget_most`, or since the process began, MB.

    Not `ru_maxrss` on Linux: there it begins with what the parent had.
    """
    return _status_mb("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 2**10
    )


def _status_mb(name: str) -> float | None:
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kilobytes[0]) / 1024 if kilobytes else None
