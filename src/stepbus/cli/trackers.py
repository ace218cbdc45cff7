"""`stepbus trackers`: what `report_to` stands for on this machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..bus.registry import Registry
from ..bus.report_to import VARIABLE, resolve_report_to
from .exit_codes import FINISHED
from .flags import FlagParser

DESCRIPTION = """\
Lists the trackers that a run reports to where nothing else is said, and why the others are left
out. Choose with report_to, --report-to, or the environment variable STEPBUS_REPORT_TO."""


def main(words: Sequence[str]) -> int:
    """Prints the table; the exit code."""
    FlagParser("stepbus trackers", DESCRIPTION).parse(words)
    table = Table(box=box.SIMPLE)
    for name in ("tracker", "a run reports to it", "because"):
        table.add_column(name)
    for choice in resolve_report_to(None, Registry()):
        table.add_row(choice.name, "yes" if choice.attached else "no", Text(choice.reason))
    console = Console(highlight=False)
    console.print(table)
    override = os.environ.get(VARIABLE, "").strip()
    if override:
        console.print(f"{VARIABLE}={override} is set and wins over report_to.", markup=False)
    return FINISHED
