"""The histograms that a step was given to log, and their events."""

from __future__ import annotations

from typing import Any

import torch

from ..bus import RunLink
from ..schemas.errors import ArgumentError
from .metric_buffer import MetricBuffer
from .scalars.histogram import Figure, Figures, Histogram


class Histograms:
    """Counts what `run.log_histogram` is given, and says it once the step has ended."""

    def __init__(self, link: RunLink, metrics: MetricBuffer) -> None:
        self._link = link
        self._metrics = metrics
        self._emitter = link.emitters["histogram"]
        self.pending: dict[str, Histogram] = {}
        """What was counted since the last step ended, by tag."""

    def add(self, tag: str, values: Any) -> None:
        """Counts values on the device that they are on; nothing where nobody listens.

        Raises:
            ArgumentError: no tensor, nor what makes one; complex values; values of another device
                under the same tag.
            StepbusError: a CUDA graph is being captured.
        """
        if not self._emitter.active:
            return
        if not isinstance(values, torch.Tensor):
            try:
                values = torch.as_tensor(values)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ArgumentError(
                    f"log_histogram({tag!r}, ...) got {type(values).__name__}, of which torch "
                    f"makes no tensor ({error}): give a tensor, an array, or a list of numbers."
                ) from error
        histogram = self.pending.get(tag)
        if histogram is None:
            histogram = Histogram()
        histogram.add(values, self._metrics)
        self.pending[tag] = histogram

    def emit(self) -> None:
        """Says what has been counted; waits for nothing."""
        pending, self.pending = self.pending, {}
        for tag, histogram in pending.items():
            left = histogram.leave(self._metrics)
            figures: dict[str, Any]
            handles: tuple[Figure, ...] = ()
            if isinstance(left, Figures):
                figures = left._asdict()
            else:
                figures = {name: Figure(left, name) for name in Figures._fields}
                handles = tuple(figures.values())
            values = {"tag": tag, "num": histogram.num, **figures}
            if self._emitter.active:
                self._link.fire(self._emitter, values, handles)
