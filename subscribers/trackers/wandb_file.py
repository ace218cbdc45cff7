"""The file that wandb's own process writes, and how much of it is on disk."""

from __future__ import annotations

import time
from pathlib import Path

FLUSH_S = 0.05
"""Between two writes of wandb's own process to its file; left alone it takes 15 s."""
LAG_S = 3 * FLUSH_S
"""How long that process has for what it was given."""
TICK_S = 0.01
"""Of the clock by which files are dated."""
NO_WRITE_S = 3.0
"""What has not led to a write by then was not to be written."""


class WandbFile:
    """Tells from its date until when all that wandb was given is in the file.

    wandb's process loses what it has not written when ours dies.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        """The file; None where it is not known to be written in time."""
        self._gave_s = 0.0

    def gave(self) -> None:
        """Says that wandb's process was given something."""
        self._gave_s = time.monotonic()

    def written_until(self) -> float | None:
        """The time until which everything is written (monotonic); None for all of it."""
        if self.path is None:
            return None
        try:
            written_s_ago = time.time() - self.path.stat().st_mtime - TICK_S
        except OSError:
            return None
        now = time.monotonic()
        idle_s = now - self._gave_s
        if idle_s > LAG_S and (written_s_ago < idle_s or idle_s > NO_WRITE_S):
            return None
        return now - max(written_s_ago, LAG_S)
