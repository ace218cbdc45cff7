"""Rows of host memory that scalars of a device are copied into, and what came of each copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .accelerators import DeviceEvent

if TYPE_CHECKING:
    from .ring import Ring

BYTES = 8
"""The widest scalar."""


class Row:
    """The scalars of one copy: on their way, arrived, or lost with the device."""

    __slots__ = ("error", "event", "ring", "values")

    def __init__(self, ring: Ring, event: DeviceEvent) -> None:
        self.ring: Ring | None = ring
        self.event: DeviceEvent | None = event
        self.values: list[Any] | None = None
        self.error: BaseException | None = None

    @property
    def known(self) -> bool:
        """Whether it has arrived or is lost, as far as the host knows; asks no device."""
        return self.values is not None or self.error is not None

    def ready(self) -> bool:
        """Whether it has arrived; never waits. Raises what the device failed with."""
        ring = self.ring
        if ring is not None:
            ring.poll()
        if self.error is not None:
            raise self.error
        return self.values is not None

    def read(self) -> list[Any]:
        """The scalars; waits for them. Raises what the device failed with."""
        ring = self.ring
        if ring is not None:
            ring.wait_for(self)
        if self.error is not None:
            raise self.error
        assert self.values is not None
        return self.values

    def settle(self, values: list[Any] | None, error: BaseException | None = None) -> None:
        """Takes what came of it, and lets go of the ring."""
        self.values, self.error = values, error
        self.ring = self.event = None


class Block:
    """Some rows of host memory, side by side."""

    def __init__(self, memory: Tensor, depth: int) -> None:
        self._memory = memory.view(depth, -1)
        self._typed: dict[torch.dtype, Tensor] = {}

    def rows(self, dtype: torch.dtype) -> Tensor:
        """The rows, read as scalars of a type."""
        rows = self._typed.get(dtype)
        if rows is None:
            rows = self._typed[dtype] = self._memory.view(dtype)
        return rows


class Slot:
    """One row of a block, the event that guards it, and what is on its way into it."""

    __slots__ = ("block", "count", "dtype", "event", "place", "row", "views")

    def __init__(self, block: Block, place: int, event: DeviceEvent) -> None:
        self.block = block
        self.place = place
        self.event = event
        self.views: dict[tuple[torch.dtype, int], Tensor] = {}
        self.dtype = torch.float32
        self.count = 0
        self.row: Row | None = None

    def view(self, dtype: torch.dtype, count: int) -> Tensor:
        """Where so many scalars of a type go."""
        view = self.views.get((dtype, count))
        if view is None:
            view = self.views[dtype, count] = self.block.rows(dtype)[self.place, :count]
        return view

    def follows(self, other: Slot) -> bool:
        """Whether both can be read in one go."""
        return (
            self.place == other.place + 1
            and self.block is other.block
            and self.dtype is other.dtype
            and self.count == other.count
        )
