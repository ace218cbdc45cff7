"""`stepbus trackers`: what `report_to` stands for on this machine."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..bus.registry import Registry
from ..bus.report_to import VARIABLE, resolve_report_to
from ..schemas.errors import DeliveryError
from .exit_codes import FINISHED
from .flags import FlagParser

DESCRIPTION = """\
Lists the trackers that a run reports to where nothing else is said, and what the others lack.
Choose with report_to, --report-to, or the environment variable STEPBUS_REPORT_TO."""


def main(words: Sequence[str]) -> int:
    """Prints the table; the exit code."""
    FlagParser("stepbus trackers", DESCRIPTION).parse(words)
    table = Table(box=box.SIMPLE)
    for name in ("tracker", "version", "a run reports to it", "because"):
        table.add_column(name)
    registry = Registry()
    for choice in resolve_report_to(None, registry, environ={}):
        attached = "yes" if choice.attached else "no"
        table.add_row(choice.name, _version(choice.name, registry), attached, Text(choice.reason))
    console = Console(highlight=False)
    console.print(table)
    override = os.environ.get(VARIABLE, "").strip()
    if override:
        console.print(f"{VARIABLE}={override} is set and wins over report_to.", markup=False)
    return FINISHED


def _version(name: str, registry: Registry) -> str:
    """The version of a tracker's package; empty where there is none."""
    try:
        package = getattr(registry.load(name), "package", "")
    except DeliveryError:
        return ""
    distributions = importlib.metadata.packages_distributions().get(package.partition(".")[0], [])
    for distribution in [package.replace(".", "-"), *distributions]:
        if distribution:
            try:
                return importlib.metadata.version(distribution)
            except importlib.metadata.PackageNotFoundError:
                continue
    return ""
