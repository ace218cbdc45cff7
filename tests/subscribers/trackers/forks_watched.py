"""A subscriber that sees what others in its process do to the process."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepbus import Subscriber


class ForksWatched(Subscriber):
    """Counts forks, and compares handlers at its end with those at its beginning.

    Args:
        file: where it says what it saw.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._forks = 0

    def made_with(self) -> Mapping[str, Any]:
        """Its argument."""
        return {"file": self._file}

    def open(self) -> None:
        """Notes what there is."""
        self._before = _handlers()
        os.register_at_fork(before=self._fork)

    def on_log(self, event: Any) -> None:
        """Says what it saw, while the others have their run open."""
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
        seen = {
            "forks": self._forks,
            "children": children.split(),
            "changed": [name for name, was in _handlers().items() if was is not self._before[name]],
        }
        Path(self._file).write_text(json.dumps(seen))

    def _fork(self) -> None:
        self._forks += 1


def _handlers() -> dict[str, Any]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT)
    found: dict[str, Any] = {number.name: signal.getsignal(number) for number in numbers}
    return {**found, "excepthook": sys.excepthook, "exit": sys.exit, "fork": os.fork}
