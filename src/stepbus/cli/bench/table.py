"""The figures of `stepbus bench` as people read them: a table for each length of step."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .comparison import Compared
from .figures import shown
from .verdict import PLACES, Case

PLAIN_WIDTH = 120
NARROW = 90
"""Columns of a terminal below which the interval is left out."""
INTERVAL = "19 in 20"
COLUMNS = ("p50 ms", "p99 ms", "max ms", "p50 x", INTERVAL, "mean x", "p99 x", "thread us")
"""Of a step; x are ratios to the raw loop's, us what the training thread works more than there."""


def console() -> Console:
    """For standard output: colours and lines on a terminal, plain columns anywhere else."""
    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


def print_case(to: Console, case: Case) -> None:
    """Prints one length of step."""
    to.print()
    to.print(Text(f"a {case.step_ms:g} ms step ({case.raw_ms:.2f} ms raw, here)", style="bold"))
    table = Table(box=box.SIMPLE_HEAD if to.is_terminal else None, padding=(0, 1))
    table.add_column("loop", no_wrap=True)
    columns = [name for name in COLUMNS if name != INTERVAL or to.width >= NARROW]
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    rows = [(case.control.name, case.control), (case.alone.name, case.alone)]
    rows += [(PLACES[where], compared) for where, compared in case.places.items()]
    for name, compared in rows:
        cells = _cells(compared)
        table.add_row(name, *(cells[column] for column in columns))
    to.print(table)


def _cells(compared: Compared) -> dict[str, str]:
    p50 = compared.p50
    cells = (
        _bare(compared.p50_ms, "ms"),
        _bare(compared.p99_ms, "ms"),
        _bare(compared.max_ms, "ms"),
        _bare(p50.value, "x"),
        f"{_bare(p50.low, 'x')}-{_bare(p50.high, 'x')}",
        _bare(compared.mean.value, "x"),
        _bare(compared.p99.value, "x"),
        f"{compared.thread_us.value:+,.0f}",
    )
    return dict(zip(COLUMNS, cells, strict=True))


def _bare(value: float, unit: str) -> str:
    return shown(value, unit).removesuffix(f" {unit}")
