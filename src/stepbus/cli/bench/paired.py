"""Numbers of steps that were taken side by side: ratios, differences, and how sure they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .figures import NOTHING, Unit

Array = NDArray[np.float64]
BLOCK = 20
"""Steps that are drawn together: the machine's speed changes more slowly than they follow."""
FEWEST_BLOCKS = 10
"""Where there are few steps, fewer are drawn together."""
DRAWS = 200
Times = Sequence[Sequence[Sequence[float]]]
"""s, by repetition, turn, step."""


class Estimate(NamedTuple):
    """A number, and where it would lie if all was measured again, 19 times in 20."""

    value: float
    low: float
    high: float

    def floor(self, unit: Unit) -> float:
        """Of a control: how far its interval reaches from nothing."""
        nothing = NOTHING.get(unit, 0.0)
        return max(self.high - nothing, nothing - self.low, 0.0)


class Pairs:
    """One kind of time of one loop's steps, each beside a step of another loop.

    Args:
        ours: a list for each repetition in fresh processes, of a list for each turn, s.
        base: of the turns beside them; a turn may have more or fewer steps.
    """

    def __init__(self, ours: Times, base: Times) -> None:
        self._ours = [[np.asarray(turn) for turn in turns] for turns in ours]
        self._base = [[np.asarray(turn) for turn in turns] for turns in base]
        size = min(BLOCK, max(1, self.num_steps // FEWEST_BLOCKS))
        self._blocks = [
            _blocks(mine, other, size) for mine, other in zip(self._ours, self._base, strict=True)
        ]

    @property
    def num_steps(self) -> int:
        """Steps of ours."""
        return sum(len(turn) for turns in self._ours for turn in turns)

    def median(self, unit: Unit) -> Estimate:
        """Of the pairs."""
        return self._estimate(
            lambda drawn: float(np.median(_compare(drawn.paired_ours, drawn.paired_base, unit)))
        )

    def quantile(self, fraction: float, unit: Unit) -> Estimate:
        """Of all steps, beside that of all steps of the base."""
        return self._estimate(
            lambda drawn: float(
                _compare(np.quantile(drawn.ours, fraction), np.quantile(drawn.base, fraction), unit)
            )
        )

    def mean(self, unit: Unit) -> Estimate:
        """Of all steps, beside that of all steps of the base."""
        return self._estimate(
            lambda drawn: float(_compare(drawn.ours.mean(), drawn.base.mean(), unit))
        )

    def quantile_s(self, fraction: float) -> float:
        """Of our steps alone, s."""
        return float(
            np.quantile(np.concatenate([t for turns in self._ours for t in turns]), fraction)
        )

    def _estimate(self, number: Callable[[_Block], float]) -> Estimate:
        """By drawing repetitions, and blocks of turns in each, anew."""
        random = np.random.default_rng(0)
        drawn_numbers = []
        for _ in range(DRAWS):
            drawn: list[_Block] = []
            for index in random.integers(len(self._blocks), size=len(self._blocks)):
                blocks = self._blocks[index]
                drawn += [blocks[i] for i in random.integers(len(blocks), size=len(blocks))]
            drawn_numbers.append(number(_joined(drawn)))
        low, high = np.quantile(drawn_numbers, [0.025, 0.975])
        every = [block for blocks in self._blocks for block in blocks]
        return Estimate(number(_joined(every)), float(low), float(high))


class _Block(NamedTuple):
    ours: Array
    base: Array
    paired_ours: Array
    paired_base: Array


def _blocks(ours: list[Array], base: list[Array], size: int) -> list[_Block]:
    blocks: list[_Block] = []
    waiting: list[_Block] = []
    for mine, other in zip(ours, base, strict=True):
        count = min(len(mine), len(other))
        waiting.append(_Block(mine, other, _spread(mine, count), _spread(other, count)))
        if sum(len(block.ours) for block in waiting) >= size:
            blocks.append(_joined(waiting))
            waiting = []
    if waiting and not blocks:
        blocks.append(_joined(waiting))
    elif waiting:
        blocks[-1] = _joined([blocks[-1], *waiting])
    return blocks


def _joined(blocks: Sequence[_Block]) -> _Block:
    return _Block(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))


def _spread(turn: Array, count: int) -> Array:
    """`count` steps from all over a turn."""
    return turn[np.arange(count) * len(turn) // count]


def _compare(
    ours: Array | np.floating[Any], base: Array | np.floating[Any], unit: Unit
) -> Array | np.floating[Any]:
    return ours / base if unit == "x" else (ours - base) * 1e6
