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
    load: float = 0.0
    """The machine's load average over a minute when it began."""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"figures": [figure.to_json() for figure in self.figures]}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Part:
        """What `to_json` made plain."""
        return cls(**values | {"figures": [_figure(each) for each in values["figures"]]})


def _figure(values: dict[str, Any]) -> Figure:
    given = {name: value for name, value in values.items() if name != "verdict"}
    low_high = given["interval"]
    return Figure(**given | {"interval": None if low_high is None else tuple(low_high)})
