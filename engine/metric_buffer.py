"""Scalars on their way from the device to the bus, without the training thread reading them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..bus import Deferred
from ..schemas.errors import ArgumentError, StepbusError
from .scalars.accelerators import Accelerator, accelerator_of
from .scalars.ring import Ring
from .scalars.rows import Row
from .scalars.waits import Waits

NARROWEST = 8
"""Scalars that fit into a row, unless there are more."""
ROOM = 4096
"""Scalars in flight, about, before a ring needs more memory, which may make the device wait. A GPU
takes about a thousand kernels ahead, and a step is several."""
AS_THEY_ARE = frozenset(
    {
        *(torch.float32, torch.float64, torch.bfloat16, torch.float16),
        *(torch.int64, torch.int32),
    }
)
"""Types that are copied as they are; others are widened on the device first."""


class DeferredScalar(Deferred):
    """One scalar of a row."""

    __slots__ = ("_column", "_row", "_then")

    def __init__(self, row: Row, column: int, then: Callable[[float], float] | None = None) -> None:
        self._row = row
        self._column = column
        self._then = then

    @property
    def known(self) -> bool:
        """Whether `result` has nothing to wait for, as far as the host knows; asks no device."""
        return self._row.known

    def ready(self) -> bool:
        """Whether the number has arrived; never waits. Raises once the device has failed."""
        return self._row.ready()

    def result(self) -> float:
        """The number; waits for it where it has not arrived."""
        number = float(self._row.read()[self._column])
        return number if self._then is None else self._then(number)

    def then(self, change: Callable[[float], float]) -> DeferredScalar:
        """What `change` makes of the number, once it is here."""
        first = self._then
        if first is None:
            return DeferredScalar(self._row, self._column, change)
        return DeferredScalar(self._row, self._column, lambda number: change(first(number)))


Scalar = float | int | Tensor
"""What users give."""
Number = Scalar | DeferredScalar
"""What a scalar may have become on its way."""


class MetricBuffer:
    """Takes scalars on the training thread and gives back what an event can carry.

    Those of the host are numbers at once. Those on a device are stacked there and copied, on the
    same stream, into pinned memory of the host; an event behind the copy tells when they are here.
    One buffer serves one run, and one thread.
    """

    def __init__(self) -> None:
        self.waits = Waits()
        """On whose account the training thread waits for what was pushed."""
        self._accelerators: dict[torch.device, Accelerator | None] = {}
        self._rings: dict[tuple[Any, int], Ring] = {}

    def push(
        self, values: Sequence[Number | None]
    ) -> tuple[list[float | DeferredScalar | None], tuple[DeferredScalar, ...]]:
        """The values in their order, and the handles among them that have still to arrive.

        Each value is what the scalar is now; changing the tensor afterwards changes nothing. A
        handle stays the handle that it is.

        Raises:
            ArgumentError: a tensor with more than one value, or with complex ones.
            StepbusError: a CUDA graph is being captured, which would keep the copy for itself.
        """
        numbers: list[float | DeferredScalar | None] = []
        on_device: list[tuple[int, Tensor]] = []
        handles: tuple[DeferredScalar, ...] = ()
        for place, value in enumerate(values):
            if value is None or type(value) is float:
                numbers.append(value)
            elif isinstance(value, DeferredScalar):
                numbers.append(value)
                handles += (value,)
            elif isinstance(value, Tensor) and not value.is_cpu:
                on_device.append((place, value))
                numbers.append(None)
            else:
                numbers.append(read(value))
        if on_device:
            handles += self._push(numbers, on_device)
        return numbers, handles

    def _push(
        self, numbers: list[float | DeferredScalar | None], on_device: list[tuple[int, Tensor]]
    ) -> tuple[DeferredScalar, ...]:
        handles = []
        for device in {tensor.device: None for _, tensor in on_device}:
            found = [(place, tensor) for place, tensor in on_device if tensor.device == device]
            accelerator = self.accelerator(device)
            if accelerator is None:
                for place, tensor in found:
                    numbers[place] = read(tensor)
                continue
            self.refuse_capture(accelerator)
            row = self._start(accelerator, _stacked([t for _, t in found], accelerator.wide))
            for column, (place, _) in enumerate(found):
                handle = numbers[place] = DeferredScalar(row, column)
                handles.append(handle)
        return tuple(handles)

    def push_row(self, values: Tensor) -> Row:
        """Starts the copy of a tensor with one dimension, which is on a device.

        Raises:
            StepbusError: a CUDA graph is being captured.
        """
        accelerator = self.accelerator(values.device)
        assert accelerator is not None
        self.refuse_capture(accelerator)
        return self._start(accelerator, values.detach())

    def accelerator(self, device: torch.device) -> Accelerator | None:
        """How to talk to a device; None where its scalars have to be waited for."""
        try:
            return self._accelerators[device]
        except KeyError:
            accelerator = self._accelerators[device] = accelerator_of(device)
            return accelerator

    def refuse_capture(self, accelerator: Accelerator) -> None:
        """Refuses to do what a captured graph would do again, and only then.

        Raises:
            StepbusError: a CUDA graph is being captured.
        """
        if accelerator.capturing():
            raise StepbusError(
                "A value on the device was given to the run while a CUDA graph is captured: the "
                "graph would take the copy in, and nothing would arrive. Give it after the "
                "capture, and after each replay."
            )

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Has no other thread ask the device about events for the length of a with block."""
        with contextlib.ExitStack() as stack:
            for ring in self._rings.values():
                stack.enter_context(ring.undisturbed())
            yield

    def _start(self, accelerator: Accelerator, values: Tensor) -> Row:
        count, stream = len(values), accelerator.stream()
        width = NARROWEST if count <= NARROWEST else 1 << (count - 1).bit_length()
        ring = self._rings.get((stream, width))
        if ring is None:
            ring = Ring(accelerator, stream, width=width, depth=max(4, ROOM // width))
            self._rings[stream, width] = ring
        return ring.push(values)


def read(value: Number) -> float:
    """A scalar as a number; one that is, or was, on a device is waited for."""
    if isinstance(value, DeferredScalar):
        return value.result()
    return float(number_of(value)) if isinstance(value, Tensor) else float(value)


def number_of(scalar: Tensor) -> float:
    """The number that a tensor with one value holds.

    Of one on the host `item()` would let go of the interpreter lock, for another thread to take.
    """
    number: Any = scalar.item() if scalar.ndim or not scalar.is_cpu else scalar.tolist()
    return number  # type: ignore[no-any-return]


def as_now(value: Number) -> Number:
    """A scalar that may be written again, as it is now; one on a device stays there."""
    if not isinstance(value, Tensor):
        return value
    return number_of(value) if value.is_cpu else value.detach().clone()


def _stacked(tensors: list[Tensor], wide: torch.dtype) -> Tensor:
    """Scalars side by side, of one type, on their device."""
    dtype = tensors[0].dtype
    if dtype not in AS_THEY_ARE or any(tensor.dtype is not dtype for tensor in tensors):
        dtype = wide
    rows = [_row_of(tensor, dtype) for tensor in tensors]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _row_of(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.numel() != 1 or tensor.is_complex():
        raise ArgumentError(
            f"A tensor of shape {tuple(tensor.shape)} and type {tensor.dtype} is no scalar: reduce "
            "it to one real number, with .mean() for one."
        )
    return tensor.detach().to(dtype).reshape(1)
