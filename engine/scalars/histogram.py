"""How the values of tensors are spread: counted where the tensors are, read by nobody on the way.

The bins are fixed, so that neither the least nor the largest value has to be known before counting:
four to a factor of two, as in OpenTelemetry's exponential histogram of scale 2, from 2^-40 to 2^40
on both sides of zero. That is the range of TensorBoard's own histograms (1e-12 to 1e20, a factor of
1.1 a bin), less what no weight or gradient reaches; what is smaller counts as zero, what is larger
goes into the last bin, whose edge is then the largest value.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ...bus import Deferred
from ...schemas.errors import ArgumentError
from .rows import Row

if TYPE_CHECKING:
    from ..metric_buffer import MetricBuffer

PER_OCTAVE = 4
OCTAVES = 40
BINS = 2 * OCTAVES * PER_OCTAVE
"""Bins on each side of zero."""
CHUNK = 1 << 22
"""Values counted at a time: it bounds the memory, and keeps counts in float32 exact."""


class Figures(NamedTuple):
    """A histogram on the host. The fields are those of the event."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float
    sum_of_squares: float
    min: float
    max: float
    num_nan: int
    num_inf: int


class Histogram:
    """Counts the values of tensors; on their device."""

    def __init__(self) -> None:
        self.num = 0
        """Values counted so far."""
        self._counts: Tensor | None = None
        self._sums: Tensor | None = None
        """Sum, sum of squares, least value negated, largest value, NaN, infinities."""

    def add(self, values: Tensor, metrics: MetricBuffer) -> None:
        """Counts the values of one more tensor; on the device of those before.

        Raises:
            ArgumentError: complex values, or another device than before.
            StepbusError: a CUDA graph is being captured.
        """
        if values.is_complex():
            raise ArgumentError(
                f"A tensor of type {values.dtype} has no histogram: give its real or absolute part."
            )
        wide = torch.float64
        accelerator = None if values.is_cpu else metrics.accelerator(values.device)
        if accelerator is not None:
            metrics.refuse_capture(accelerator)
            wide = accelerator.wide
        if self._counts is not None and self._counts.device != values.device:
            raise ArgumentError(
                f"A histogram has values on {self._counts.device} and on {values.device}: give the "
                "tensors of each device a name of their own."
            )
        self.num += values.numel()
        with torch.no_grad():
            for chunk in torch.split(values.detach().flatten(), CHUNK):
                self._add(chunk, wide)

    def _add(self, chunk: Tensor, wide: torch.dtype) -> None:
        if not chunk.numel():
            return
        if not chunk.is_floating_point():
            chunk = chunk.to(wide)
        elif chunk.dtype not in (torch.float32, torch.float64):
            chunk = chunk.to(torch.float32)
        finite = chunk.nan_to_num(0.0, 0.0, 0.0)
        counts = _count(finite)
        inf = math.inf
        sums = torch.stack(
            [
                finite.sum(dtype=wide),
                torch.linalg.vector_norm(finite, dtype=wide).square(),
                chunk.nan_to_num(inf, inf, inf).amin().neg().to(wide),
                chunk.nan_to_num(-inf, -inf, -inf).amax().to(wide),
                chunk.isnan().sum().to(wide),
                chunk.isinf().sum().to(wide),
            ]
        )
        if self._counts is None or self._sums is None:
            self._counts, self._sums = counts, sums
            return
        self._counts += counts
        largest = torch.maximum(self._sums[2:4], sums[2:4])
        self._sums += sums
        self._sums[2:4].copy_(largest)

    def leave(self, metrics: MetricBuffer) -> Figures | Arriving:
        """The figures, which may be on their way."""
        counts, sums = self._counts, self._sums
        if counts is None or sums is None:
            return Figures((), (), 0.0, 0.0, math.nan, math.nan, 0, 0)
        if counts.is_cpu or metrics.accelerator(counts.device) is None:
            return figures(counts.tolist(), sums.tolist())
        return Arriving(metrics.push_row(counts), metrics.push_row(sums))


class Arriving:
    """The figures of a histogram on their way from a device."""

    def __init__(self, counts: Row, sums: Row) -> None:
        self._rows = (counts, sums)
        self._figures: Figures | None = None

    def ready(self) -> bool:
        """Whether they have arrived; never waits. Raises once the device has failed."""
        return all(row.ready() for row in self._rows)

    def read(self) -> Figures:
        """The figures; waits for them."""
        if self._figures is None:
            counts, sums = self._rows
            self._figures = figures(counts.read(), sums.read())
        return self._figures


class Figure(Deferred):
    """One figure of a histogram that is on its way."""

    __slots__ = ("_arriving", "_name")

    def __init__(self, arriving: Arriving, name: str) -> None:
        self._arriving = arriving
        self._name = name

    def ready(self) -> bool:
        """Whether it has arrived; never waits. Raises once the device has failed."""
        return self._arriving.ready()

    def result(self) -> object:
        """The figure; waits for it."""
        return getattr(self._arriving.read(), self._name)


def _count(finite: Tensor) -> Tensor:
    """How many values each of the bins has, from the most negative to the most positive."""
    # 0 for what is as good as zero; then one more for each bin away from it.
    level = finite.abs().log2_().mul_(PER_OCTAVE).floor_()
    level.clamp_(-OCTAVES * PER_OCTAVE - 1, OCTAVES * PER_OCTAVE - 1)
    level.add_(OCTAVES * PER_OCTAVE + 1).mul_(finite.sign())
    if not finite.is_cpu and torch.are_deterministic_algorithms_enabled():
        # histc adds atomically, which counts the same whatever the order; torch refuses it.
        places = level.add_(BINS).to(torch.int64)
        counts = places.new_zeros(2 * BINS + 1)
        return counts.index_add_(0, places, torch.ones_like(places))
    edge = BINS + 0.5
    return torch.histc(level, bins=2 * BINS + 1, min=-edge, max=edge).to(torch.int64)


def figures(counts: list[int], sums: list[float]) -> Figures:
    """The figures of counts over all bins, and of the sums: the bins with values in them."""
    total, squares, least_negated, largest, num_nan, num_inf = sums
    # What was not finite stood as zero.
    counts = list(counts)
    counts[BINS] -= int(num_nan) + int(num_inf)
    places = [place for place, count in enumerate(counts) if count]
    if not places:
        return Figures((), (), 0.0, 0.0, math.nan, math.nan, int(num_nan), int(num_inf))
    first, last = places[0], places[-1]
    edges = [upper_edge(place - BINS) for place in range(first - 1, last + 1)]
    # Beyond the bins there are none, and at an edge a logarithm is not exact.
    edges[0], edges[-1] = min(edges[0], -least_negated), max(edges[-1], largest)
    return Figures(
        edges=tuple(edges),
        counts=tuple(counts[first : last + 1]),
        sum=total,
        sum_of_squares=squares,
        min=-least_negated,
        max=largest,
        num_nan=int(num_nan),
        num_inf=int(num_inf),
    )


def upper_edge(place: int) -> float:
    """Where a bin ends: number 0 holds zero, negative numbers lie below it."""
    exponent = place if place >= 0 else -place - 1
    edge: float = 2.0 ** ((exponent - OCTAVES * PER_OCTAVE) / PER_OCTAVE)
    return edge if place >= 0 else -edge
