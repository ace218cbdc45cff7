"""Delivery `loop`: one task for each async subscriber on the event loop, asyncio or trio."""

from __future__ import annotations

import inspect
import threading
import time

import anyio

from ..schemas import Event
from .handling import Handling, Services
from .mailbox import Mailbox
from .subscription import Subscription


class LoopWorker:
    """Runs one subscription's handlers as a task; made anywhere, run on the loop."""

    def __init__(self, subscription: Subscription, services: Services) -> None:
        self.subscription = subscription
        self.mailbox: Mailbox = subscription.mailbox
        self.handling = Handling(subscription, services)
        self.ready = threading.Event()
        self.error: Exception | None = None
        self.finished = threading.Event()
        self._filled: anyio.Event | None = None
        self._scope: anyio.CancelScope | None = None
        self._abandoned = False

    def wake(self) -> None:
        """Lets the task look at its mailbox; to be called on the loop."""
        if self._filled is not None:
            self._filled.set()

    def cancel(self) -> None:
        """Ends the handler that runs; to be called on the loop."""
        self._abandoned = True
        self.wake()
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        """The task: set-up, handlers in order, teardown."""
        try:
            await self._open()
            with anyio.CancelScope() as self._scope:
                await self._serve()
        finally:
            dropped = self.mailbox.discard()
            self.handling.account.drop("deadline", len(dropped))
            for event in dropped:
                self.handling.done(event)
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await self._close()
            self.finished.set()

    async def _open(self) -> None:
        try:
            if self.subscription.open is not None:
                result = self.subscription.open()
                if inspect.isawaitable(result):
                    await result
        except Exception as error:
            self.error = error
            self.handling.quarantine(f"open() failed: {type(error).__name__}: {error}")
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        mailbox = self.mailbox
        while not self._abandoned:
            self._filled = anyio.Event()
            events = mailbox.take()
            if events:
                try:
                    await self._handle(events[0])
                finally:
                    self.handling.done(events[0])
                    mailbox.settle()
                # Handlers that never wait would keep all others from the loop.
                await anyio.lowlevel.checkpoint()
            elif mailbox.closed:
                return
            else:
                await self._filled.wait()

    async def _handle(self, event: Event) -> None:
        tries = 0
        account = self.handling.account
        while True:
            handler = self.handling.begin(event)
            if handler is None:
                return
            tries += 1
            started = time.perf_counter()
            try:
                with anyio.fail_after(self.subscription.options.timeout):
                    result = await handler(event)  # type: ignore[misc]
            except Exception as error:
                account.handler_s += time.perf_counter() - started
                delay = self.handling.failed(event, error, tries=tries)
                if delay is None:
                    return
                await anyio.sleep(delay)
                continue
            account.handler_s += time.perf_counter() - started
            self.handling.succeeded(event, result)
            return

    async def _close(self) -> None:
        if self.subscription.close is None:
            return
        try:
            result = self.subscription.close()
            if inspect.isawaitable(result):
                await result
        except Exception as error:
            self.handling.account.failures += 1
            self.handling.quarantine(f"close() failed: {type(error).__name__}: {error}")
