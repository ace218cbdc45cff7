"""Scalars off a CUDA device without a host synchronisation on the training thread.

Each push stacks the scalars on the device, copies them on the same stream into pinned host
memory, and records one event. Whoever needs the numbers asks the event, or sleeps on it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..bus import Deferred
from .metric_buffer import Number

COLUMNS = 8
"""Most scalars in one push."""


class Slot(NamedTuple):
    """Pinned host memory for one row, and the event behind its copy; used again and again."""

    host: Tensor
    copied: torch.cuda.Event


class Row:
    """The scalars of one push, until they have been read."""

    __slots__ = ("_slot", "_values")

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._values: list[float] | None = None

    def poll(self) -> bool:
        """Whether the numbers are there; never waits."""
        if self._values is None and self._slot.copied.query():
            self._values = self._slot.host.tolist()
        return self._values is not None

    def wait(self) -> list[float]:
        """The numbers; the thread sleeps until they are there."""
        if self._values is None:
            self._slot.copied.synchronize()
            self._values = self._slot.host.tolist()
        return self._values

    @property
    def slot(self) -> Slot:
        """The memory, free again once `poll` has returned True."""
        return self._slot


class DeferredScalar(Deferred):
    """One number of a row."""

    __slots__ = ("_column", "_row")

    def __init__(self, row: Row, column: int) -> None:
        self._row = row
        self._column = column

    def ready(self) -> bool:
        """Whether the number has arrived."""
        return self._row.poll()

    def result(self) -> float:
        """The number; waits for it where it has not arrived."""
        return self._row.wait()[self._column]


class CudaMetricBuffer:
    """The variant for a model on a CUDA device; used on the training thread alone.

    Rows are freed by the next push once they have arrived. Where none is free, another is made:
    the producer never waits and no row is dropped.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._free: list[Slot] = []
        self._in_flight: deque[Row] = deque()

    def push(
        self, values: Sequence[Number | None]
    ) -> tuple[list[float | Deferred | None], tuple[Deferred, ...]]:
        """The values in their order, those on a device as handles that have still to arrive."""
        on_device = [
            (index, value)
            for index, value in enumerate(values)
            if isinstance(value, Tensor) and value.device.type != "cpu"
        ]
        found: list[float | Deferred | None] = [
            None
            if value is None or isinstance(value, Tensor) and value.device.type != "cpu"
            else float(value)
            for value in values
        ]
        if not on_device:
            return found, ()
        row = self._copy([value for _, value in on_device])
        handles: list[Deferred] = []
        for column, (index, _) in enumerate(on_device):
            found[index] = handle = DeferredScalar(row, column)
            handles.append(handle)
        return found, tuple(handles)

    def _copy(self, scalars: Sequence[Tensor]) -> Row:
        slot = self._take_slot()
        with torch.no_grad():
            # A stack copies: changing a scalar afterwards, or a replayed graph, changes nothing.
            stacked = torch.stack([scalar.detach().reshape(()).double() for scalar in scalars])
            slot.host[: len(scalars)].copy_(stacked, non_blocking=True)
        slot.copied.record(torch.cuda.current_stream(self._device))
        row = Row(slot)
        self._in_flight.append(row)
        return row

    def _take_slot(self) -> Slot:
        in_flight = self._in_flight
        while in_flight and in_flight[0].poll():
            self._free.append(in_flight.popleft().slot)
        if self._free:
            return self._free.pop()
        host = torch.empty(COLUMNS, dtype=torch.float64, pin_memory=True)
        return Slot(host, torch.cuda.Event(blocking=True))  # type: ignore[no-untyped-call]
