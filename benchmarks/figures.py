"""A measured figure, its control and its budget, and how they are printed."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console, JustifyMethod
from rich.table import Table

Unit = Literal["us", "x"]
NOTHING: dict[Unit, float] = {"us": 0.0, "x": 1.0}
"""What a unit shows where two things cost the same."""


@dataclass(frozen=True)
class Figure:
    """One row of the report, in microseconds or as a ratio."""

    what: str
    median: float
    p99: float
    control: float
    """The same measurement with nothing in it, in the same interleaving."""
    budget: float | None = None
    """What the median should not exceed."""
    samples: int = 0
    unit: Unit = "us"
    mean: float | None = None
    interval: tuple[float, float] | None = None
    """Where the median would lie if all was measured again, 19 times in 20."""
    floor: float = 0.0
    """How far the control's own interval reaches from nothing: what is finer cannot be told."""

    @property
    def verdict(self) -> str:
        """Whether the budget is met; a distance within the control cannot be told apart."""
        if self.budget is None:
            return ""
        if self.median <= self.budget:
            return "met"
        strayed = abs(self.control - NOTHING[self.unit])
        if self.median - self.budget <= max(strayed, self.floor):
            return "not told apart"
        if self.unit == "x":
            return f"{self.median - self.budget:+.2f}"
        return f"{self.median / self.budget:.1f} x"


def figure(
    what: str, samples: Sequence[float], controls: Sequence[float], budget: float | None = None
) -> Figure:
    """A figure from samples in seconds; the medians' difference, and that of the control halves."""
    base = statistics.median(controls)
    half = len(controls) // 2
    control = statistics.median(controls[:half]) - statistics.median(controls[half:])
    ordered = sorted(samples)
    return Figure(
        what=what,
        median=(statistics.median(ordered) - base) * 1e6,
        p99=(ordered[int(0.99 * (len(ordered) - 1))] - base) * 1e6,
        control=control * 1e6,
        budget=budget,
        samples=len(ordered),
    )


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    load = os.getloadavg()[0]
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": f"{load:.1f}",
    }


def show(title: str, figures: Sequence[Figure]) -> None:
    """Prints a table of figures, all in the unit of the first."""
    unit = figures[0].unit if figures else "us"
    whole = any(row.interval is not None for row in figures)
    table = Table(title=title, title_justify="left")
    spread = ["interval", f"mean {unit}"] if whole else []
    for name in ("what", f"median {unit}", *spread, f"p99 {unit}", "control", "budget"):
        justify: JustifyMethod = "left" if name == "what" else "right"
        table.add_column(name, justify=justify, no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in figures:
        table.add_row(*_cells(row, whole))
    Console(width=150 if whole else 110).print(table)


def _cells(row: Figure, whole: bool) -> list[str]:
    digits = 1 if whole and row.unit == "us" else 3
    sign = "+" if row.unit == "us" else ""
    spread = []
    if whole:
        low, high = row.interval or (row.median, row.median)
        spread = [f"{low:.{digits}f} to {high:.{digits}f}"]
        spread.append("" if row.mean is None else f"{row.mean:.{digits}f}")
    return [
        row.what,
        f"{row.median:.{digits}f}",
        *spread,
        f"{row.p99:.{digits}f}",
        f"{row.control:{sign}.{digits}f}",
        "" if row.budget is None else f"{row.budget:g}",
        row.verdict,
    ]


def save(path: Path, figures: Sequence[Figure]) -> None:
    """Writes the figures and the machine as JSON."""
    content = {"machine": machine(), "figures": [asdict(row) for row in figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
