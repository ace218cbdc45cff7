"""The figures of `stepbus bench` as people read them: a table for each length of step."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .comparison import Compared
from .figures import shown
from .verdict import PLACES, Case

PLAIN_WIDTH = 120
COLUMNS = ("p50", "p99", "max", "p50 / raw", "19 in 20", "mean", "p99 / raw", "thread us")


def console() -> Console:
    """For standard output: colours and lines on a terminal, plain columns anywhere else."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def print_case(to: Console, case: Case, notes: Sequence[str] = ()) -> None:
    """Prints one length of step."""
    to.print()
    to.print(Text(f"a {case.step_ms:g} ms step ({case.raw_ms:.2f} ms raw, here)", style="bold"))
    table = Table(box=box.SIMPLE_HEAD if to.is_terminal else None, padding=(0, 1))
    table.add_column("loop", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    _add(table, case.control.name, case.control, style="dim")
    _add(table, case.alone.name, case.alone)
    for where, compared in case.places.items():
        _add(table, PLACES[where], compared)
    to.print(table)
    for note in notes:
        to.print(Text(note))


def _add(table: Table, name: str, compared: Compared, style: str = "") -> None:
    p50 = compared.p50
    table.add_row(
        name,
        shown(compared.p50_ms, "ms"),
        shown(compared.p99_ms, "ms"),
        shown(compared.max_ms, "ms"),
        shown(p50.value, "x"),
        f"{p50.low:.3f} - {p50.high:.3f}" if p50.high < 2 else f"{p50.low:.1f} - {p50.high:.1f}",
        shown(compared.mean.value, "x"),
        shown(compared.p99.value, "x"),
        f"{compared.thread_us.value:+.1f}",
        style=style,
    )
