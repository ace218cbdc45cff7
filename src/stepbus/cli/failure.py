"""How a failure is told: one line on standard error, and the traceback for those who ask."""

from __future__ import annotations

import os
import sys
import traceback

DEBUG = "STEPBUS_DEBUG"
"""Environment variable that shows tracebacks; the flag `--debug` sets it."""


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def tell(error: BaseException, before: str = "") -> None:
    """Prints an error as one line on standard error."""
    if debugging():
        traceback.print_exception(error)
    text = " ".join(f"{before}{error}".split())
    print(f"stepbus: {text}", file=sys.stderr)
