"""Delivery `thread`: one dedicated thread for each subscriber.

Several trackers bind their state to the thread that set them up, so set-up, handlers and teardown
share one thread, and no thread is ever shared between subscribers. It is a daemon outside of any
pool: a call stuck in foreign code cannot be ended, and must not keep the process alive.
"""

from __future__ import annotations

import threading
import time

from ..schemas import Event
from .handling import Handling, Services
from .mailbox import Mailbox
from .subscription import Subscription

BATCH = 32
"""Events taken from the mailbox at once under `buffer`; the lossy policies take one at a time."""


class ThreadWorker:
    """Runs one subscription's handlers in a thread of its own."""

    def __init__(self, subscription: Subscription, services: Services) -> None:
        self.subscription = subscription
        self.mailbox: Mailbox = subscription.mailbox
        self.handling = Handling(subscription, services)
        self.ready = threading.Event()
        self.error: Exception | None = None
        self.finished = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"stepbus-{subscription.name}", daemon=True
        )

    def start(self) -> None:
        """Starts the thread; set-up runs in it."""
        self._thread.start()

    def abandon(self) -> None:
        """Stops handling: what still waits is counted as dropped, retries end at once."""
        self._hurry.set()
        self.mailbox.close()

    def join(self, timeout: float) -> bool:
        """Waits for the end of the thread; True once it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def stack_thread(self) -> int | None:
        """The identity of the thread, for a look at where it stands."""
        return self._thread.ident

    def _run(self) -> None:
        try:
            self._open()
            self._serve()
        finally:
            self._close()
            self.finished.set()

    def _open(self) -> None:
        try:
            if self.subscription.open is not None:
                self.subscription.open()
        except Exception as error:
            self.error = error
            self.handling.quarantine(f"open() failed: {type(error).__name__}: {error}")
        finally:
            self.ready.set()

    def _serve(self) -> None:
        mailbox = self.mailbox
        most = BATCH if mailbox.overflow == "buffer" else 1
        while True:
            events = mailbox.take(most)
            if events:
                for event in events:
                    if self._hurry.is_set():
                        self.handling.account.drop("deadline")
                    else:
                        self._handle(event)
                    self.handling.done(event)
                mailbox.settle(len(events))
            elif not mailbox.wait() and mailbox.closed:
                return

    def _handle(self, event: Event) -> None:
        tries = 0
        account = self.handling.account
        while True:
            handler = self.handling.begin(event)
            if handler is None:
                return
            tries += 1
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                result = handler(event)
            except Exception as error:
                self._charge(wall, cpu)
                delay = self.handling.failed(event, error, tries=tries)
                if delay is None or self._hurry.wait(delay):
                    return
                continue
            self._charge(wall, cpu)
            if account.stuck:
                return
            self.handling.succeeded(event, result)
            return

    def _charge(self, wall: float, cpu: float) -> None:
        account = self.handling.account
        account.handler_s += time.perf_counter() - wall
        account.cpu_s += time.thread_time() - cpu

    def _close(self) -> None:
        if self.subscription.close is None:
            return
        try:
            self.subscription.close()
        except Exception as error:
            self.handling.account.failures += 1
            self.handling.quarantine(f"close() failed: {type(error).__name__}: {error}")
