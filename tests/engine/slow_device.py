"""A real, slow accelerator made of a thread: what it is given is done in order, when it is let.

Its tensors say that they are on a device of their own. Each operation on one is put into a queue,
which a thread of the device's works off while the device is not held; until then the results hold
`NOT_YET`. So whoever reads too early reads what is wrong, as on a GPU, and whoever waits is caught.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

KIND = "privateuseone"
NOT_YET = -12345
"""What memory holds before it has been written."""
DEADLINE_S = 30.0
VIEWS = frozenset("detach view slice select alias _unsafe_view t reshape split".split())

aten = torch.ops.aten


class SlowDevice:
    """A device with a queue, a thread that works it off, and a gate before it."""

    def __init__(self) -> None:
        self.wide: torch.dtype = torch.float64
        self.captures = False
        """Whether the thread that gives it work is recording a graph."""
        self.waits: list[str] = []
        """What made a thread of the host wait, in order."""
        self.asked = 0
        """How often an event was asked."""
        self.error: Exception | None = None
        self.refuses: Exception | None = None
        """What asking an event is answered with, once."""
        self._queue: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._permits = 0
        self._open = True
        self._lazy = False
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="slow-device", daemon=True)
        self._thread.start()

    # The gate

    def hold(self) -> None:
        """Has what is given from now on wait."""
        with self._changed:
            self._open = False

    def work_when_waited_for(self) -> None:
        """Has it do nothing until somebody waits, and then all that it was given."""
        with self._changed:
            self._open, self._lazy = False, True

    def release(self) -> None:
        """Has the device do what it was given, and what it will be given, at once."""
        with self._changed:
            self._open, self._lazy = True, False
            self._changed.notify_all()

    def do(self, copies: int) -> None:
        """Lets a held device go on until so many more events have been passed."""
        with self._changed:
            self._permits += copies
            self._changed.notify_all()
        self._wait(lambda: not self._permits or not self._queue)

    def finish(self) -> None:
        """Waits until all that it was given is done; counted as nobody's wait."""
        self._wait(lambda: not self._queue)

    def fail(self, error: Exception) -> None:
        """Has the device do nothing any more but raise."""
        with self._changed:
            self.error = error
            self._changed.notify_all()

    def end(self) -> None:
        """Ends its thread."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    # What the host gives it

    def tensor(self, value: Any, dtype: torch.dtype | None = None) -> Tensor:
        """A tensor on the device with this value, once the device has got so far."""
        source = torch.as_tensor(value, dtype=dtype).detach().clone()
        return self._computed(lambda: source, source)

    def give(self, work: Callable[[], object]) -> None:
        """Puts something behind what it has been given."""
        if self.error is not None:
            raise self.error
        with self._changed:
            self._queue.append(work)
            self._changed.notify_all()

    def wait(self, why: str) -> None:
        """Waits until all that it was given is done, and notes it."""
        self.waits.append(why)
        self._wait(lambda: not self._queue)

    def dispatch(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Puts an operation on its tensors into the queue."""
        name = func.overloadpacket.__name__
        host_args, host_kwargs = tree_map(_host, (args, kwargs))
        if name == "_local_scalar_dense":
            self.wait("item")
            return func(*host_args)
        if name == "copy_" and not isinstance(args[0], SlowTensor):
            if not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])):
                self.wait("copy")
            target, source = host_args[:2]
            self.give(lambda: target.copy_(source))
            return args[0]
        if name == "_to_copy":
            if torch.device(kwargs.get("device") or KIND).type == "cpu":
                self.wait("to cpu")
                return func(*host_args, **host_kwargs)
            host_kwargs = {k: v for k, v in host_kwargs.items() if k != "device"}
        if name in VIEWS:
            seen = func(*host_args, **host_kwargs)
            if isinstance(seen, Tensor):
                return SlowTensor(seen, self)
            return [SlowTensor(each, self) for each in seen]
        if name.endswith("_") and isinstance(args[0], SlowTensor):
            self.give(lambda: func(*host_args, **host_kwargs))
            return args[0]
        like = func(*tree_map(_shape, host_args), **tree_map(_shape, host_kwargs))
        if isinstance(like, tuple):
            return self._several(lambda: func(*host_args, **host_kwargs), like)
        return self._computed(lambda: func(*host_args, **host_kwargs), like)

    def _computed(self, compute: Callable[[], Tensor], like: Tensor) -> Tensor:
        result = torch.full(like.shape, NOT_YET).to(like.dtype)
        self.give(lambda: result.copy_(compute()))
        return SlowTensor(result, self)

    def _several(self, compute: Callable[[], Any], like: Any) -> Any:
        results = [torch.full(each.shape, NOT_YET).to(each.dtype) for each in like]

        def work() -> None:
            for result, value in zip(results, compute(), strict=True):
                result.copy_(value)

        self.give(work)
        return tuple(SlowTensor(result, self) for result in results)

    # What a ring asks of it

    def stream(self) -> object:
        """It has one."""
        return self

    def host_memory(self, num_bytes: int) -> Tensor:
        """Memory with something old in it."""
        return torch.full((num_bytes,), 0x55, dtype=torch.uint8)

    def make_event(self) -> SlowEvent:
        """An event that has not been recorded."""
        return SlowEvent(self)

    def record(self, event: SlowEvent, stream: object) -> None:
        """Puts an event behind what it was given so far."""
        assert stream is self
        event.record()

    def capturing(self) -> bool:
        """Whether a graph is being recorded."""
        return self.captures

    # Its thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._may_work())
                if self._ended:
                    return
                work = self._queue[0]
            with torch.no_grad():
                work()
            with self._changed:
                self._queue.popleft()
                if not self._open and isinstance(getattr(work, "__self__", None), SlowEvent):
                    self._permits -= 1
                self._changed.notify_all()

    def _may_work(self) -> bool:
        return bool(self._queue) and self.error is None and (self._open or self._permits > 0)

    def _wait(self, until: Callable[[], bool]) -> None:
        with self._changed:
            if self._lazy and not until():
                self._open = True
                self._changed.notify_all()
            assert self._changed.wait_for(lambda: until() or self.error is not None, DEADLINE_S)
            self._open = self._open and not self._lazy
        if self.error is not None:
            raise self.error


class SlowEvent:
    """A mark in the queue of a slow device."""

    def __init__(self, device: SlowDevice) -> None:
        self._device = device
        self._recorded = 0
        self._passed = 0

    def record(self) -> None:
        """Puts it at the end of the queue."""
        self._recorded += 1
        self._device.give(self._pass)

    def _pass(self) -> None:
        self._passed += 1

    def query(self) -> bool:
        """Whether it has been passed."""
        device = self._device
        device.asked += 1
        if device.refuses is not None:
            error, device.refuses = device.refuses, None
            raise error
        if device.error is not None:
            raise device.error
        return self._passed == self._recorded

    def synchronize(self) -> None:
        """Waits until it has been passed."""
        self._device.waits.append("event")
        self._device._wait(lambda: self._passed == self._recorded)


class SlowTensor(Tensor):
    """A tensor on a slow device; the memory that it stands for is the host's."""

    host: Tensor
    slow_device: SlowDevice

    @staticmethod
    def __new__(cls, host: Tensor, device: SlowDevice) -> SlowTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            host.size(),
            strides=host.stride(),
            dtype=host.dtype,
            device=torch.device(KIND, 0),
        )
        made.host, made.slow_device = host, device
        return made

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"SlowTensor({self.dtype}, {tuple(self.shape)})"

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        device = next(each.slow_device for each in _flat(args) if isinstance(each, SlowTensor))
        return device.dispatch(func, args, kwargs or {})


def _flat(args: Any) -> Iterator[Any]:
    for each in args:
        if isinstance(each, list | tuple):
            yield from _flat(each)
        else:
            yield each


def _host(value: Any) -> Any:
    return value.host if isinstance(value, SlowTensor) else value


def _shape(value: Any) -> Any:
    return value.to("meta") if isinstance(value, Tensor) else value


@contextmanager
def slow_device(kinds: dict[str, Any]) -> Iterator[SlowDevice]:
    """A slow device that the engine knows for the length of a with block."""
    device = SlowDevice()
    kinds[KIND] = lambda _: device
    try:
        yield device
    finally:
        del kinds[KIND]
        device.end()
