"""Means and sums of values of which some are on a device and stay there."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...schemas.errors import ArgumentError

if TYPE_CHECKING:
    from ..metric_buffer import DeferredScalar, MetricBuffer, Scalar


class Mean:
    """A running mean. What is on a device is added up there, in the widest type that it has."""

    __slots__ = ("count", "on_device", "on_host")

    def __init__(self, on_host: float = 0.0, count: int = 0) -> None:
        self.on_host = on_host
        """The sum of what was on the host."""
        self.on_device: Tensor | None = None
        """The sum of what was on a device."""
        self.count = count

    def add(self, value: Scalar, metrics: MetricBuffer) -> None:
        """Takes one more value; one on a device is added there and not read.

        Raises:
            ArgumentError: a tensor with more than one value.
            StepbusError: a CUDA graph is being captured.
        """
        if isinstance(value, Tensor):
            if value.is_cpu:
                # As `item()`, which lets go of the interpreter lock.
                number: Any = value.item() if value.ndim else value.tolist()
                self.on_host = self.on_host + number
            else:
                self._add(value, metrics)
        else:
            self.on_host = self.on_host + value
        self.count += 1

    def _add(self, value: Tensor, metrics: MetricBuffer) -> None:
        if value.numel() != 1 or value.is_complex():
            raise ArgumentError(
                f"A tensor of shape {tuple(value.shape)} and type {value.dtype} is no scalar: "
                "reduce it to one real number, with .mean() for one."
            )
        accelerator = metrics.accelerator(value.device)
        if accelerator is None:
            self.on_host += value.item()
            return
        metrics.refuse_capture(accelerator)
        value = value.detach().reshape(())
        if self.on_device is None:
            # A copy, since the tensor may be written again: by the next replay of a graph for one.
            self.on_device = value.to(accelerator.wide, copy=True)
        elif value.device == self.on_device.device:
            self.on_device += value
        else:
            self.on_device += value.to(self.on_device.device, non_blocking=True)

    def of(self, on_device: float | DeferredScalar | None) -> float | DeferredScalar:
        """The mean, given what a push made of `on_device`."""
        on_host, count = self.on_host, self.count
        if on_device is None:
            return on_host / count
        if isinstance(on_device, float):
            return (on_host + on_device) / count
        return on_device.then(lambda total: (on_host + total) / count)


class Total:
    """A sum of parts in their order, of which some are on their way from a device."""

    def __init__(self, total: float = 0.0) -> None:
        self._total = total
        self._parts: deque[float | DeferredScalar] = deque()

    def add(self, part: float | DeferredScalar) -> None:
        """Takes one more part; does not wait for it."""
        if isinstance(part, float) and not self._parts:
            self._total += part
            return
        self._parts.append(part)
        while self._parts and (isinstance(self._parts[0], float) or self._parts[0].known):
            self._total += _number(self._parts.popleft())

    @property
    def num_pending(self) -> int:
        """Parts that would have to be waited for."""
        return len(self._parts)

    def read(self) -> float:
        """The sum; waits for its parts. NaN where one of them is lost."""
        while self._parts:
            self._total += _number(self._parts.popleft())
        return self._total


def _number(part: float | DeferredScalar) -> float:
    try:
        return part if isinstance(part, float) else part.result()
    except Exception:
        # The device has failed, and says so itself wherever it is used.
        return math.nan
