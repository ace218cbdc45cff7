"""Delivery `thread`: one dedicated thread for each subscriber.

Several trackers bind their state to the thread that set them up, so set-up, handlers and teardown
share one thread, and no thread is ever shared between subscribers. It is a daemon outside of any
pool: a call stuck in foreign code cannot be ended, and must not keep the process alive.
"""

from __future__ import annotations

import threading
import time

from ..schemas import Event
from .diagnostics import get_logger
from .handling import Handling, Services, one_line
from .mailbox import Mailbox
from .subscription import Subscription

log = get_logger()

CPU_EVERY = 64
CPU_EVERY_S = 0.5
"""Events, or time in handlers, after which processor time is read at the latest; reading it costs
a system call."""


class ThreadWorker:
    """Runs one subscription's handlers in a thread of its own."""

    def __init__(self, subscription: Subscription, services: Services) -> None:
        self.subscription = subscription
        self.mailbox: Mailbox = subscription.mailbox
        self.handling = Handling(subscription, services)
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self.finished = threading.Event()
        self.phase = "open()"
        """Where the thread is: open(), handlers or close()."""
        self._hurry = threading.Event()
        self._cpu_s = 0.0
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
        if self.subscription.hurry is not None:
            try:
                self.subscription.hurry()
            except Exception as error:
                log.error(f"{self.subscription.name}.hurry() failed: {one_line(error)}")

    def join(self, timeout: float) -> bool:
        """Waits for the end of the thread; True once it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def stack_thread(self) -> int | None:
        """The identity of the thread, for a look at where it stands."""
        return self._thread.ident

    def _run(self) -> None:
        self._cpu_s = time.thread_time()
        try:
            self._open()
            self.phase = "handlers"
            self._serve()
        finally:
            self.phase = "close()"
            self._close()
            self._charge_cpu()
            self.finished.set()

    def _open(self) -> None:
        try:
            if self.subscription.open is not None:
                self.subscription.open()
        except BaseException as error:
            self.error = error
            self.handling.open_failed(f"open() failed: {one_line(error)}")
        finally:
            self.ready.set()

    def _serve(self) -> None:
        mailbox, handling = self.mailbox, self.handling
        take, settle, hurry = mailbox.take, mailbox.settle, self._hurry
        account, since_charge, charge_at_s = handling.account, 0, CPU_EVERY_S
        again_s: float | None = None
        handled = False
        while True:
            if hurry.is_set():
                handling.drop("deadline", mailbox.discard())
            event = take()
            if event is None:
                self._charge_cpu()
                since_charge = 0
                if handled or again_s is not None:
                    handled = False
                    again_s = None if hurry.is_set() else self._catch_up()
                    if mailbox.has_mail and not mailbox.behind:
                        continue
                if mailbox.closed and again_s is not None:
                    hurry.wait(again_s)  # The mailbox itself no longer waits for anything.
                elif not mailbox.wait(again_s):
                    if mailbox.closed:
                        return
                elif mailbox.behind:
                    self._read_on()
                continue
            self._handle(event)
            handled = True
            handling.done(event)
            settle()
            since_charge += 1
            if since_charge >= CPU_EVERY or account.handler_s > charge_at_s:
                self._charge_cpu()
                since_charge, charge_at_s = 0, account.handler_s + CPU_EVERY_S

    def _read_on(self) -> None:
        if self.handling.account.quarantined:
            self.handling.drop("quarantine", self.mailbox.discard())
        else:
            self.mailbox.read_on()

    def _catch_up(self) -> float | None:
        """Has it hand on what it collected; in how many seconds it wants to be called again."""
        catch_up, handling, event = self.subscription.caught_up, self.handling, self.handling.event
        if catch_up is None or event is None or handling.account.quarantined:
            return None
        account, tries = handling.account, 0
        while True:
            tries += 1
            started = time.perf_counter()
            account.busy_since = handling.now()
            try:
                again_s = catch_up()
            except BaseException as error:
                account.handler_s += time.perf_counter() - started
                delay = None if account.stuck else handling.failed(event, error, tries=tries)
                if delay is None or self._hurry.wait(delay):
                    return None
                continue
            account.handler_s += time.perf_counter() - started
            account.busy_since = None
            handling.answered()
            return again_s

    def _handle(self, event: Event) -> None:
        handling = self.handling
        handler = handling.begin(event)
        if handler is None:
            return
        account = handling.account
        tries = 0
        while True:
            tries += 1
            started = time.perf_counter()
            try:
                result = handler(event)
            except BaseException as error:  # Even SystemExit must not end the subscriber's thread.
                account.handler_s += time.perf_counter() - started
                delay = None if account.stuck else handling.failed(event, error, tries=tries)
                if delay is None:
                    return
                if self._hurry.wait(delay):
                    account.drop("deadline")
                    return
                handling.again()
                continue
            account.handler_s += time.perf_counter() - started
            if not account.stuck:
                handling.succeeded(event, result)
            return

    def _charge_cpu(self) -> None:
        now = time.thread_time()
        self.handling.account.cpu_s += now - self._cpu_s
        self._cpu_s = now

    def _close(self) -> None:
        if self.subscription.close is None:
            return
        try:
            self.subscription.close()
        except BaseException as error:
            self.handling.close_failed(error)
