"""A measured figure, its control and its budget, and how they are printed."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console, JustifyMethod
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One row of the report. All times in microseconds."""

    what: str
    median: float
    p99: float
    control: float
    """The same measurement with nothing in it, in the same interleaving."""
    budget: float | None = None
    """What the median should not exceed."""
    samples: int = 0

    @property
    def verdict(self) -> str:
        """Whether the budget is met; a distance within the control cannot be told apart."""
        if self.budget is None:
            return ""
        if self.median <= self.budget:
            return "met"
        if self.median - self.budget <= abs(self.control):
            return "not told apart"
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
    """Prints a table of figures."""
    table = Table(title=title, title_justify="left")
    for name in ("what", "median us", "p99 us", "control us", "budget us", "verdict"):
        justify: JustifyMethod = "left" if name in ("what", "verdict") else "right"
        table.add_column(name, justify=justify, no_wrap=True)
    for row in figures:
        table.add_row(
            row.what,
            f"{row.median:.3f}",
            f"{row.p99:.3f}",
            f"{row.control:+.3f}",
            "" if row.budget is None else f"{row.budget:g}",
            row.verdict,
        )
    Console(width=110).print(table)


def save(path: Path, figures: Sequence[Figure]) -> None:
    """Writes the figures and the machine as JSON."""
    content = {"machine": machine(), "figures": [asdict(row) for row in figures]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
