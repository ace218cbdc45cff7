"""The few things that a ring asks of a device: memory to copy into, a stream, events, no more."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor

from ...schemas.errors import ArgumentError


class DeviceEvent(Protocol):
    """A mark in a stream."""

    def query(self) -> bool:
        """Whether the device has passed it; never waits. Raises once the device has failed."""

    def synchronize(self) -> None:
        """Waits until the device has passed it, asleep and without the interpreter's lock."""


class Accelerator(Protocol):
    """A device that computes behind the host's back."""

    wide: torch.dtype
    """The widest type of floating point that it has."""

    def stream(self) -> Hashable:
        """What the calling thread's work on the device is put in order by."""

    def host_memory(self, num_bytes: int) -> Tensor:
        """Bytes of the host into which the device copies by itself."""

    def make_event(self) -> DeviceEvent:
        """An event that has not been recorded."""

    def record(self, event: Any, stream: Any) -> None:
        """Puts an event behind what the stream has been given so far."""

    def capturing(self) -> bool:
        """Whether the calling thread records a graph instead of computing."""


class Cuda:
    """A CUDA device, ROCm's among them."""

    wide = torch.float64

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(self) -> torch.cuda.Stream:
        """The device's current stream in this thread."""
        return torch.cuda.current_stream(self._device)

    def host_memory(self, num_bytes: int) -> Tensor:
        """Pinned, since a copy into other memory makes the host wait."""
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)

    def make_event(self) -> torch.cuda.Event:
        """One on which a waiting thread sleeps; by default it spins at full load."""
        return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]

    def record(self, event: torch.cuda.Event, stream: torch.cuda.Stream) -> None:
        """Puts an event behind what the stream has been given so far."""
        event.record(stream)

    def capturing(self) -> bool:
        """Whether the current stream is recording a CUDA graph."""
        return torch.cuda.is_current_stream_capturing()


class Mps:
    """Apple's GPU, which has one stream.

    It shares the host's memory, so that a copy needs none of a special kind. Recording an event
    commits what was encoded before it (ATen's MPSHooks::recordEvent), so that it gets done.
    """

    wide = torch.float32

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(self) -> str:
        """The only one."""
        return "mps"

    def host_memory(self, num_bytes: int) -> Tensor:
        """Ordinary memory."""
        return torch.empty(num_bytes, dtype=torch.uint8)

    def make_event(self) -> torch.mps.event.Event:
        """An event of Metal's."""
        return torch.mps.event.Event()

    def record(self, event: torch.mps.event.Event, stream: str) -> None:
        """Puts an event behind what was encoded so far."""
        event.record()

    def capturing(self) -> bool:
        """Never: there are no graphs."""
        return False


KINDS: dict[str, Callable[[torch.device], Accelerator]] = {"cuda": Cuda, "mps": Mps}
"""The kinds of device whose scalars are not waited for."""


def accelerator_of(device: torch.device) -> Accelerator | None:
    """How to talk to a device; None for a kind whose scalars have to be waited for.

    Raises:
        ArgumentError: a device without values.
    """
    if device.type == "meta":
        raise ArgumentError("A scalar is on the device 'meta', where tensors have no values.")
    kind = KINDS.get(device.type)
    return kind(device) if kind is not None else None
