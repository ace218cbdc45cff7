"""Prints the logs, for output that a program or a file takes."""

from __future__ import annotations

import sys
from typing import ClassVar

from ..bus.built_in import BuiltInCallback
from ..bus.shapes import both_shapes
from ..schemas import Log


class PrinterCallback(BuiltInCallback):
    """Prints the logs of the first process to standard output, each as a dict in one line.

    Floats have four significant digits, as in the reference. What it leaves out of the line,
    `total_flos`, stays in the event for all others.
    """

    reports: ClassVar[bool] = False

    @both_shapes
    def on_log(self, event: Log) -> None:
        """Prints the values; a closed output is no error."""
        if event.rank != 0 or sys.stdout is None or sys.stdout.closed:
            return
        shown = {
            name: f"{value:.4g}" if isinstance(value, float) else value
            for name, value in event.logs.items()
            if name != "total_flos"
        }
        try:
            print(shown, flush=True)
        except (OSError, ValueError):
            if not sys.stdout.closed:
                raise
