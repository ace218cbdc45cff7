"""What a bridge holds where no run is open, and the run that it leaves open when it goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .bridged_run import BridgedRun


class _Silent:
    """An emitter where no run is open."""

    active = False
    link: Any = None


SILENT: Any = _Silent()


class OpenRun:
    """The run of a bridge that is deleted, or alive when the program ends.

    Args:
        why: what to say it failed with, where its trainer ended without a word.
    """

    def __init__(self, why: Callable[[], BaseException]) -> None:
        self.run: BridgedRun | None = None
        self.pid = os.getpid()
        self._why = why

    def abandon(self) -> None:
        """Ends it as failed; a forked child leaves it to its parent."""
        run, self.run = self.run, None
        if run is not None and os.getpid() == self.pid:
            if not run.over:
                run.fail(self._why())
            run.close()
