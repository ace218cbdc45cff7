"""The event loop that async handlers run on: the host's, or one of stepbus's own.

This is the one file that knows how asyncio and trio are woken from another thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel

from .loop_worker import LoopWorker


class LoopWaker:
    """Calls functions on one event loop, from any thread, without waiting for it."""

    def __init__(self) -> None:
        native: Any = anyio.lowlevel.current_token().native_token
        self.loop: object = native
        """Which loop that is: the same object for all of its wakers."""
        # asyncio's loop and trio's token have the same thing under two names.
        self._call: Callable[..., object] = getattr(native, "call_soon_threadsafe", None) or (
            native.run_sync_soon
        )

    def call(self, function: Callable[[], object]) -> bool:
        """Schedules a call; False when the loop has ended."""
        try:
            self._call(function)
        except RuntimeError:  # asyncio's closed loop; trio's RunFinishedError is one too.
            return False
        return True


class LoopHost:
    """Runs loop workers on one event loop and wakes them, at most once per batch."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.ended = threading.Event()
        self.error: BaseException | None = None
        self._waker: LoopWaker | None = None
        self._lock = threading.Lock()
        self._new: list[LoopWorker] = []
        self._dirty: dict[LoopWorker, None] = {}
        self._wake_sent = False
        self._closing = False
        self._attention: anyio.Event | None = None
        self._thread: threading.Thread | None = None
        self._loop_thread: int | None = None

    def start_own_loop(self, backend: str) -> None:
        """Starts a thread with an event loop of stepbus's own."""

        def run() -> None:
            try:
                anyio.run(self.serve, backend=backend)
            except BaseException as error:
                self.error = error
            finally:
                self.ended.set()
                self.started.set()

        self._thread = threading.Thread(target=run, name="stepbus-loop", daemon=True)
        self._thread.start()
        self.started.wait()
        if self.error is not None:
            raise self.error

    @property
    def own_thread(self) -> threading.Thread | None:
        """The thread of stepbus's own loop; None on a host's loop."""
        return self._thread

    @property
    def here(self) -> bool:
        """Whether the caller is on the loop's own thread, so that waiting for it is for ever."""
        return self._loop_thread == threading.get_ident()

    async def serve(self) -> None:
        """Runs the workers until `close` was called and all of them have ended.

        A host that is cancelled does not cancel them: they end with the bus, by its deadline.
        """
        self._loop_thread = threading.get_ident()
        self._attention = anyio.Event()
        self._waker = LoopWaker()
        self.started.set()
        try:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as tasks:
                    await self._run_workers(tasks)
        finally:
            self.ended.set()

    async def _run_workers(self, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            assert self._attention is not None
            attention = self._attention
            with self._lock:
                new, self._new = self._new, []
                closing = self._closing
            for worker in new:
                tasks.start_soon(worker.run)
            if closing:
                return
            await attention.wait()

    def add(self, worker: LoopWorker) -> None:
        """Runs a worker; from any thread."""
        with self._lock:
            self._new.append(worker)
        self._call(self._attend)

    def mark(self, worker: LoopWorker) -> None:
        """Notes that a worker has mail; `flush_wakes` then wakes the loop once for all."""
        with self._lock:
            self._dirty[worker] = None

    def flush_wakes(self) -> None:
        """Wakes the loop if some worker has mail and no wake-up is on its way."""
        with self._lock:
            if not self._dirty or self._wake_sent:
                return
            self._wake_sent = True
        if not self._call(self._wake):
            with self._lock:
                self._wake_sent = False

    def cancel(self, workers: list[LoopWorker]) -> None:
        """Ends the handlers of some workers; from any thread, without waiting."""

        def cancel_all() -> None:
            for worker in workers:
                worker.cancel()

        self._call(cancel_all)

    def wake(self, workers: list[LoopWorker]) -> None:
        """Lets some workers look at their mailboxes; from any thread, without waiting."""

        def wake_all() -> None:
            for worker in workers:
                worker.wake()

        self._call(wake_all)

    def close(self) -> None:
        """Takes no more workers and ends once all have; from any thread, without waiting."""
        with self._lock:
            self._closing = True
        self._call(self._attend)

    def _call(self, function: Callable[[], object]) -> bool:
        return self._waker is not None and self._waker.call(function)

    def _attend(self) -> None:
        attention, self._attention = self._attention, anyio.Event()
        if attention is not None:
            attention.set()

    def _wake(self) -> None:
        with self._lock:
            self._wake_sent = False
            dirty, self._dirty = self._dirty, {}
        for worker in dirty:
            worker.wake()
