"""A subscriber that keeps a program of its own, as some trackers do, and cannot go on at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from stepbus.schemas import Event
from tests.bus.sidecar.handlers import Writer

# Counts what a terminal's Ctrl-C would send to it; a signal that is ignored leaves no trace.
COMPANION = """\
import signal, sys
heard = []
signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
print("ready", flush=True)
sys.stdin.read()
print(len(heard))
"""


class Companion(Writer):
    """Writes events once a file is there, and at the end the interrupts that its program got."""

    def __init__(self, path: str, until: str) -> None:
        super().__init__(path)
        self.until = until

    def made_with(self) -> dict[str, Any]:
        return {"path": self.path, "until": self.until}

    def open(self) -> None:
        self.program = subprocess.Popen(
            [sys.executable, "-c", COMPANION],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.program.stdout is not None
        assert self.program.stdout.readline() == "ready\n"
        super().open()

    def on_event(self, event: Event) -> None:
        never = threading.Event()
        while event.name == "step_end" and not Path(self.until).exists():
            never.wait(0.01)
        super().on_event(event)

    def close(self) -> None:
        said, _ = self.program.communicate(timeout=30)
        self.write(name="interrupts", count=int(said))
        super().close()
