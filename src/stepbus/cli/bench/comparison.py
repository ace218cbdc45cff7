"""What a loop's steps came to beside those of the loop by hand, and beside the control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .figures import Figure, Unit
from .paired import Estimate, Pairs
from .pairing import Steps

CONTROL = "raw, once more"
"""The loop by hand beside itself: what it shows, everything else may show by chance."""


@dataclass(frozen=True)
class Compared:
    """One loop in one case."""

    name: str
    p50: Estimate
    """Of a step, to that of a raw one."""
    p99: Estimate
    mean: Estimate
    wall_us: Estimate
    """Median wall time that a step has more than a raw one."""
    thread_us: Estimate
    """Of that, median time on a core that the training thread has more."""
    p50_ms: float
    p99_ms: float
    max_ms: float
    num_steps: int


def compare(name: str, ours: Sequence[Steps], base: Sequence[Steps]) -> Compared:
    """Compares a loop's steps with the raw ones beside them; an entry for each repetition."""
    wall = Pairs([steps.wall_s for steps in ours], [steps.wall_s for steps in base])
    cpu = Pairs([steps.cpu_s for steps in ours], [steps.cpu_s for steps in base])
    return Compared(
        name=name,
        p50=wall.median("x"),
        p99=wall.quantile(0.99, "x"),
        mean=wall.mean("x"),
        wall_us=wall.median("us"),
        thread_us=cpu.median("us"),
        p50_ms=wall.quantile_s(0.5) * 1e3,
        p99_ms=wall.quantile_s(0.99) * 1e3,
        max_ms=wall.quantile_s(1.0) * 1e3,
        num_steps=wall.num_steps,
    )


MEASURES: dict[str, Unit] = {
    "p50": "x",
    "p99": "x",
    "mean": "x",
    "wall_us": "us",
    "thread_us": "us",
}
"""Numbers of a loop that have a control."""
PLAIN: dict[str, Unit] = {"p50_ms": "ms", "p99_ms": "ms", "max_ms": "ms"}


def figures(
    part: str,
    case: str,
    compared: Compared,
    control: Compared,
    budgets: Mapping[str, float] | None = None,
) -> list[Figure]:
    """The numbers of one loop as figures, each beside that of the control."""
    found = []
    for measure, unit in MEASURES.items():
        estimate: Estimate = getattr(compared, measure)
        beside: Estimate = getattr(control, measure)
        found.append(
            Figure(
                part,
                case,
                compared.name,
                measure,
                estimate.value,
                unit,
                control=beside.value,
                floor=beside.floor(unit),
                interval=(estimate.low, estimate.high),
                budget=(budgets or {}).get(measure),
                samples=compared.num_steps,
            )
        )
    for measure, unit in PLAIN.items():
        value: float = getattr(compared, measure)
        beside_ms: float = getattr(control, measure)
        found.append(Figure(part, case, compared.name, measure, value, unit, control=beside_ms))
    return found
