"""Delivery `loop`: one task for each async subscriber on the event loop, asyncio or trio."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import anyio

from ..schemas import Event
from .handling import Handling, Services, one_line
from .mailbox import Mailbox
from .off_the_loop import read_on
from .subscription import Subscription

TEARDOWN_S = 5.0
"""How long an async close() may take."""


class LoopWorker:
    """Runs one subscription's handlers as a task; made anywhere, run on the loop."""

    def __init__(self, subscription: Subscription, services: Services) -> None:
        self.subscription = subscription
        self.mailbox: Mailbox = subscription.mailbox
        self.handling = Handling(subscription, services)
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self.finished = threading.Event()
        self.phase = "open()"
        """Where the task is: open(), handlers or close()."""
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
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        """The task: set-up, handlers in order, teardown."""
        try:
            with anyio.CancelScope() as self._scope:
                if not self._abandoned:
                    await self._open()
                    self.phase = "handlers"
                    await self._serve()
        except asyncio.CancelledError:
            # Somebody cancelled the bare asyncio task. Let out, it would cancel all the others.
            pass
        finally:
            if not self.mailbox.closed:
                self.handling.quarantine("its task was cancelled")
                self.mailbox.close()
            self.handling.drop("deadline", self.mailbox.discard())
            self.phase = "close()"
            with anyio.CancelScope(shield=True), anyio.move_on_after(TEARDOWN_S) as self._scope:
                await self._close()
            self.ready.set()
            self.finished.set()

    async def _open(self) -> None:
        try:
            if self.subscription.open is not None:
                await _awaited(self.subscription.open)
        except (Exception, SystemExit) as error:
            self.error = error
            self.handling.open_failed(f"open() failed: {one_line(error)}")
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        mailbox = self.mailbox
        while True:
            event = mailbox.take()
            if event is not None:
                try:
                    await self._handle(event)
                except anyio.get_cancelled_exc_class():
                    self.handling.account.drop("deadline")
                    raise
                finally:
                    self.handling.done(event)
                    mailbox.settle()
                # Handlers that never wait would keep all others from the loop.
                await anyio.lowlevel.checkpoint()
                continue
            if await read_on(mailbox):
                continue
            if mailbox.closed and not mailbox.behind:
                return
            filled = self._filled = anyio.Event()
            # What came before this event was made woke nobody.
            if not mailbox.has_mail and (mailbox.behind or not mailbox.closed):
                await filled.wait()

    async def _handle(self, event: Event) -> None:
        handling = self.handling
        handler = handling.begin(event)
        if handler is None:
            return
        account = handling.account
        timeout = self.subscription.options.timeout
        tries = 0
        while True:
            tries += 1
            started = time.perf_counter()
            scope = anyio.CancelScope()
            if timeout is not None:
                scope.deadline = anyio.current_time() + timeout
            error: BaseException | None = None
            result: object = None
            try:
                with scope:
                    result = await cast("Awaitable[object]", handler(event))
            except asyncio.CancelledError as raised:
                if not _raised_by_handler():
                    raise
                error = raised
            except (Exception, SystemExit) as raised:
                error = raised
            if scope.cancelled_caught:
                error = TimeoutError(f"the handler of {event.name} took over {timeout:g} s")
            account.handler_s += time.perf_counter() - started
            if error is None:
                handling.succeeded(event, result)
                return
            delay = handling.failed(event, error, tries=tries)
            if delay is None:
                return
            await anyio.sleep(delay)
            handling.again()

    async def _close(self) -> None:
        if self.subscription.close is None:
            return
        try:
            await _awaited(self.subscription.close)
        except (Exception, SystemExit) as error:
            self.handling.close_failed(error)


def _raised_by_handler() -> bool:
    """Whether an asyncio cancellation is none of this task: the handler awaited a cancelled one."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # On trio it is an exception like any other.
        return True
    return task is None or not task.cancelling()


async def _awaited(function: Callable[[], Any]) -> None:
    result = function()
    if inspect.isawaitable(result):
        await result
