"""A measured figure, its control and its budget."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

Unit = Literal["x", "us", "ms", "s", "MB", "1/s", "points", "", "KB"]
NOTHING: dict[str, float] = {"x": 1.0}
"""What a unit shows where two things cost the same; 0 in all others."""


@dataclass(frozen=True)
class Figure:
    """One number of a report, with the same number of its control."""

    part: str
    """Of the report."""
    case: str
    """What was done: a length of step, a number of subscribers."""
    subject: str
    """Who did it."""
    measure: str
    """Which number of it: p50, p99, events."""
    value: float
    unit: Unit
    control: float | None = None
    """The same measurement with nothing in it, in the same interleaving."""
    floor: float = 0.0
    """How far the control's own interval reaches from nothing: what is finer cannot be told."""
    interval: tuple[float, float] | None = None
    """Where the value would lie if all was measured again, 19 times in 20."""
    budget: float | None = None
    """What the value should not exceed."""
    at_least: bool = False
    """The budget is what it should not fall below."""
    samples: int = 0

    @property
    def excess(self) -> float:
        """How far the value is beyond its budget; at most 0 where it is met."""
        if self.budget is None:
            return 0.0
        return self.budget - self.value if self.at_least else self.value - self.budget

    @property
    def uncertainty(self) -> float:
        """What the control alone shows: a distance within it cannot be told from nothing."""
        strayed = 0.0 if self.control is None else abs(self.control - NOTHING.get(self.unit, 0.0))
        return max(strayed, self.floor)

    @property
    def verdict(self) -> str:
        """Whether the budget is met; with the distance where it is not."""
        if self.budget is None:
            return ""
        if self.excess <= 0:
            return "met"
        if self.excess <= self.uncertainty:
            return "not told from the control"
        return f"not met, by {self._distance}"

    @property
    def _distance(self) -> str:
        assert self.budget is not None
        times = self.budget / self.value if self.at_least else self.value / self.budget
        if self.unit == "x" or not math.isfinite(times) or times < 1.5:
            return shown(self.excess, self.unit).strip()
        return f"{times:.1f} times"

    def to_json(self) -> dict[str, Any]:
        """Plain values, and the verdict."""
        return asdict(self) | {"verdict": self.verdict}


def shown(value: float, unit: str) -> str:
    """A number as people read it, with its unit."""
    if not math.isfinite(value):
        return "none"
    size = abs(value)
    if unit == "x":
        text = f"{value:.3f}" if size < 2 else f"{value:.2f}" if size < 10 else f"{value:.0f}"
        return f"{text} x"
    if unit == "us" and size >= 10_000:
        return f"{value / 1e3:,.1f} ms"
    if unit == "1/s":
        return f"{value:,.0f}/s"
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f} {unit}".strip()
