"""Figures of steps that were taken side by side: ratios and differences, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .figures import NOTHING, Figure, Unit

Array = NDArray[np.float64]
BLOCK = 20
"""Rounds that are drawn together: the machine's speed changes more slowly than they follow."""
DRAWS = 500


class Pairs:
    """One kind of time of one loop's steps, each beside a step of another loop.

    Args:
        ours: s, a list for each repetition in fresh processes.
        base: s, of the steps beside them.
    """

    def __init__(self, ours: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> None:
        self._ours = [np.asarray(times) for times in ours]
        self._base = [np.asarray(times) for times in base]

    def figure(
        self, what: str, unit: Unit, control: Pairs | None, budget: float | None = None
    ) -> Figure:
        """The median of the pairs, and what the mean and the slowest of a hundred come to.

        Args:
            what: was measured.
            unit: "x" for ratios, "us" for differences.
            control: the base loop once more beside itself; None where this is the control.
            budget: what the median should not exceed.
        """
        control = control or self
        low, high = control._interval(unit)
        ours, base = np.concatenate(self._ours), np.concatenate(self._base)
        nothing = NOTHING[unit]
        return Figure(
            what=what,
            median=self._median(unit),
            p99=float(_compare(np.quantile(ours, 0.99), np.quantile(base, 0.99), unit)),
            control=control._median(unit),
            budget=budget,
            samples=len(ours),
            unit=unit,
            mean=float(_compare(ours.mean(), base.mean(), unit)),
            interval=self._interval(unit),
            floor=max(high - nothing, nothing - low),
        )

    def _each(self, unit: Unit) -> list[Array]:
        return [
            np.asarray(_compare(ours, base, unit))
            for ours, base in zip(self._ours, self._base, strict=True)
        ]

    def _median(self, unit: Unit) -> float:
        return float(np.median(np.concatenate(self._each(unit))))

    def _interval(self, unit: Unit) -> tuple[float, float]:
        """By drawing repetitions, and blocks of rounds in each, anew."""
        random = np.random.default_rng(0)
        repetitions = [_blocks(each) for each in self._each(unit)]
        medians = []
        for _ in range(DRAWS):
            drawn = []
            for index in random.integers(len(repetitions), size=len(repetitions)):
                blocks = repetitions[index]
                drawn.append(blocks[random.integers(len(blocks), size=len(blocks))])
            medians.append(np.median(np.concatenate([blocks.ravel() for blocks in drawn])))
        low, high = np.quantile(medians, [0.025, 0.975])
        return float(low), float(high)


def _blocks(values: Array) -> Array:
    size = min(BLOCK, len(values))
    count = len(values) // size
    return values[: count * size].reshape(count, size)


def _compare(
    ours: Array | np.floating[Any], base: Array | np.floating[Any], unit: Unit
) -> Array | np.floating[Any]:
    return ours / base if unit == "x" else (ours - base) * 1e6
