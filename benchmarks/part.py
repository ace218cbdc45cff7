"""A part of the report: its figures, what could not be measured, and what to know of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from stepbus.cli.bench.figures import Figure

Tell = Callable[[str], object]


@dataclass
class Part:
    """What one part measured."""

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    """What was not measured, each with the reason."""
    notes: list[str] = field(default_factory=list)
    """How to read the figures."""
    seconds: float = 0.0
    """How long it took."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"figures": [figure.to_json() for figure in self.figures]}
