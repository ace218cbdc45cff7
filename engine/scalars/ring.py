"""A ring of host memory into which a device copies scalars, while nobody waits for them.

Known as *asynchronous logging* of metrics; the events make it safe: a copy that has not been
waited for leaves what was there before.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ...schemas.errors import StepbusError
from .accelerators import Accelerator
from .rows import BYTES, Block, Row, Slot


class Ring:
    """Copies of one stream of a device.

    `push` belongs to the thread that works on the stream, all else to any thread. Copies of a
    stream are done in order, so that of all events the newest is asked first.

    Args:
        accelerator: the device.
        stream: whose copies these are.
        width: the most scalars of a copy.
        depth: copies that may be on their way before there is more memory.
    """

    def __init__(
        self, accelerator: Accelerator, stream: Any, *, width: int, depth: int = 64
    ) -> None:
        self._accelerator = accelerator
        self._stream = stream
        self._width = width
        self._flying: deque[Slot] = deque()
        self._free: deque[Slot] = deque()
        # Held by whoever asks the device about events, and for the length of a capture.
        self._lock = threading.RLock()
        self.depth = 0
        """Copies that may be on their way before there is more memory."""
        self._grow(depth)

    def push(self, values: Tensor) -> Row:
        """Starts the copy of some scalars, whose value is what it is now; waits for nothing."""
        slot = self._take_slot()
        slot.dtype, slot.count = values.dtype, len(values)
        try:
            slot.view(values.dtype, slot.count).copy_(values, non_blocking=True)
            self._accelerator.record(slot.event, self._stream)
        except BaseException:
            self._free.append(slot)
            raise
        row = slot.row = Row(self, slot.event)
        self._flying.append(slot)
        return row

    def poll(self) -> None:
        """Takes in what has arrived; where another thread is at it, leaves it to that one."""
        if self._flying and self._lock.acquire(blocking=False):
            try:
                self._take_in()
            finally:
                self._lock.release()

    def wait_for(self, row: Row) -> None:
        """Waits until a row has arrived, or its device has failed.

        Raises:
            StepbusError: a CUDA graph is being captured.
        """
        with self._lock:
            event = row.event
            if event is None:
                return
            try:
                event.synchronize()
            except Exception as error:
                if not _says_capture(error):
                    self._fail(error)
            else:
                self._take_in()
        if not row.known:
            raise StepbusError(
                "A value on its way from the device cannot be waited for while a CUDA graph is "
                "captured: read it before or after."
            )

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Has no other thread ask the device about events for the length of a with block."""
        with self._lock:
            yield

    def _take_slot(self) -> Slot:
        try:
            return self._free.popleft()
        except IndexError:
            self.poll()
        if not self._free:
            self._grow(max(1, self.depth))
        return self._free.popleft()

    def _grow(self, by: int) -> None:
        accelerator = self._accelerator
        block = Block(accelerator.host_memory(by * self._width * BYTES), by)
        self.depth += by
        self._free.extend(Slot(block, place, accelerator.make_event()) for place in range(by))

    def _take_in(self) -> None:
        try:
            arrived = [self._flying.popleft() for _ in range(self._num_arrived())]
        except Exception as error:
            if not _says_capture(error):
                self._fail(error)
            return
        start = 0
        for end in range(1, len(arrived) + 1):
            if end < len(arrived) and arrived[end].follows(arrived[end - 1]):
                continue
            first = arrived[start]
            rows = first.block.rows(first.dtype)[first.place : first.place + end - start]
            for slot, values in zip(
                arrived[start:end], rows[:, : first.count].tolist(), strict=True
            ):
                _settle(slot, values)
            start = end
        self._free.extend(arrived)

    def _num_arrived(self) -> int:
        flying, num = self._flying, len(self._flying)
        if not num or flying[num - 1].event.query():
            return num
        # All below `low` have arrived, and `high` has not.
        low, high = 0, num - 1
        while low < high:
            # The oldest first: where the device is slow, it is the one that is waited for.
            middle = (low + high) // 2 if low else 0
            if flying[middle].event.query():
                low = middle + 1
            else:
                high = middle
        return low

    def _fail(self, error: BaseException) -> None:
        # Their memory is not used again: nobody knows what is still written into it.
        while self._flying:
            _settle(self._flying.popleft(), None, error)


def _settle(slot: Slot, values: list[Any] | None, error: BaseException | None = None) -> None:
    row, slot.row = slot.row, None
    assert row is not None
    row.settle(values, error)


def _says_capture(error: Exception) -> bool:
    """Whether a question was refused for the time of a capture, rather than the device lost."""
    return "captur" in str(error).lower()
