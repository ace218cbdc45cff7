"""Scalars on their way from the device to the bus, without the training thread reading them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..bus import Deferred

Number = float | int | Tensor


class MetricBuffer(Protocol):
    """Takes scalars on the training thread and gives back what an event can carry."""

    def push(
        self, values: Sequence[Number | None]
    ) -> tuple[list[float | Deferred | None], tuple[Deferred, ...]]:
        """The values in their order, and the handles among them that have still to arrive.

        Each value is what the scalar is now; changing the tensor afterwards changes nothing.
        """


class HostMetricBuffer:
    """The variant for values that are on the CPU: there is nothing to wait for."""

    def push(
        self, values: Sequence[Number | None]
    ) -> tuple[list[float | Deferred | None], tuple[Deferred, ...]]:
        """The values as numbers. A tensor on another device is read, and waited for."""
        return [None if value is None else read(value) for value in values], ()


def metric_buffer_for(device: torch.device) -> MetricBuffer:
    """The buffer for a model on `device`."""
    return HostMetricBuffer()


def read(value: Number) -> float:
    """A scalar as a number; a tensor on a device is waited for."""
    return float(value.item()) if isinstance(value, Tensor) else float(value)
