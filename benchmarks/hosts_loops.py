"""A run that a hundred coroutines follow on an event loop beside it, ten of which are stuck."""

from __future__ import annotations

import threading
from typing import Any

import anyio
from torch import nn

from stepbus import EventBus
from stepbus.engine.bench.equal_work import Work
from stepbus.engine.bench.loops import StepWatch, training_run

READERS = 100
STUCK = 10


def unread(work: Work, watch: StepWatch, *, logging_steps: int) -> nn.Module:
    """A run that logs to nobody."""
    return training_run(work, watch, logging_steps=logging_steps)


def read(work: Work, watch: StepWatch, *, logging_steps: int, backend: str) -> nn.Module:
    """The same run with its readers, in an event loop of another thread."""
    following = _Following(backend)
    try:
        return training_run(work, watch, logging_steps=logging_steps, subscribe=following.follow)
    finally:
        watch.facts["read"] = following.num_read
        following.end()


class _Following:
    """The readers and their loop."""

    def __init__(self, backend: str) -> None:
        self.num_read = 0
        self._backend = backend
        self._ended = threading.Event()
        self._streams: list[Any] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bench-host", daemon=True)

    def follow(self, bus: EventBus) -> None:
        """Subscribes them and waits until they read."""
        self._streams = [bus.events("log", mailbox_size=256) for _ in range(READERS)]
        self._thread.start()
        self._ready.wait()

    def end(self) -> None:
        """Ends the loop."""
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        anyio.run(self._serve, backend=self._backend)

    async def _serve(self) -> None:
        async with anyio.create_task_group() as tasks:
            for number, stream in enumerate(self._streams):
                tasks.start_soon(self._read, stream, number < STUCK)
            await anyio.wait_all_tasks_blocked()
            self._ready.set()
            while not self._ended.is_set():  # noqa: ASYNC110 - set by another thread
                await anyio.sleep(0.05)
            tasks.cancel_scope.cancel()

    async def _read(self, stream: Any, is_stuck: bool) -> None:
        async for _ in stream:
            self.num_read += 1
            if is_stuck:
                await anyio.sleep_forever()
