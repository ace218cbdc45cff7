"""A process and all that it started, made to stand still, so that others have the machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc")
_KERNEL_TELLS = _PROC / "thread-self" / "children"


def freeze(pid: int) -> list[int]:
    """Stops a process and its descendants, parents first; those that were stopped.

    Its threads, and the processes that its trackers run in, then neither work off what waits for
    them nor take a core from whoever is measured next.
    """
    stopped: list[int] = []
    found = [pid]
    while found:
        for each in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
            stopped.append(each)
        # One may have been started just before its parent was stopped.
        found = [child for child in descendants(pid) if child not in stopped]
    return stopped


def thaw(pids: list[int]) -> None:
    """Lets stopped processes go on, children first."""
    for pid in reversed(pids):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have, and so on."""
    children = _children_by_kernel if _KERNEL_TELLS.exists() else _children_by_parents()
    found, queue = [], [pid]
    while queue:
        new = children(queue.pop())
        found += new
        queue += new
    return found


def _children_by_kernel(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_bytes().split())
    return found


def _children_by_parents() -> Callable[[int], list[int]]:
    """The same where the kernel does not tell: from a list of all processes."""
    done = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    children: dict[int, list[int]] = {}
    for child, parent in map(str.split, done.stdout.splitlines()):
        children.setdefault(int(parent), []).append(int(child))
    return lambda pid: children.get(pid, [])
