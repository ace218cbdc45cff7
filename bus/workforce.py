"""The workers of a bus: hired when it starts, woken in batches, waited for, let go."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable

import anyio

from ..schemas.errors import DeliveryError
from .dismissal import Hired, dismiss
from .event_stream import StreamWorker, wake_readers
from .handling import Services
from .loop_host import LoopHost
from .loop_worker import LoopWorker
from .oversight import Oversight
from .process_worker import ProcessWorker
from .run_link import RunLink
from .sidecar.feeder import Feeder
from .spillway import Spillway
from .subscription import Subscription
from .thread_worker import ThreadWorker
from .waiting import Countdown
from .worker import Worker

WOKEN_TOGETHER = 16
WAKE_EVERY_S = 0.005
"""So many readers of streams are woken at a time, so often at most."""


class Workforce:
    """Runs the subscriptions of one bus."""

    def __init__(self, services: Services, spillway: Spillway, backend: str) -> None:
        self._services = services
        self._spillway = spillway
        self._backend = backend
        self._workers: dict[Subscription, Worker] = {}
        self._streams: dict[Subscription, StreamWorker] = {}
        self._to_wake: dict[StreamWorker, None] = {}
        """Readers with mail that have not been told; the pump's own."""
        self._wake_at = 0.0
        self._leaving: list[Hired] = []
        self._lock = threading.Lock()
        self._loop: LoopHost | None = None
        self._host_loop = False
        self._oversight = Oversight()
        self._feeder: Feeder | None = None
        self._num_processed = 0
        self._starting = False
        self._runs: set[tuple[str, int, int]] = set()

    def use_host_loop(self, tasks: anyio.abc.TaskGroup) -> None:
        """Runs async handlers as tasks of a host's own; to be called on its loop."""
        self._loop = LoopHost()
        self._host_loop = True
        tasks.start_soon(self._loop.serve)

    def leave_host_loop(self) -> None:
        """Lets the host's loop go, once the workers on it have ended."""
        if self._loop is not None and self._host_loop:
            self._loop.close()

    def adopt(self, worker: StreamWorker) -> None:
        """Takes a stream, whose reader does its own work."""
        self._streams[worker.subscription] = worker

    @property
    def workers(self) -> list[Worker]:
        """All that are at work."""
        return list(self._workers.values())

    def worker_of(self, subscription: Subscription) -> Worker | None:
        """Who runs a subscription; None while nobody does."""
        return self._workers.get(subscription)

    def hire(self, subscription: Subscription) -> None:
        """Starts a worker for a subscription; its set-up runs there."""
        if subscription.delivery == "gate" or subscription in self._workers:
            return
        if subscription.account.stuck:
            return  # Its thread was left behind; a second one beside it would break its state.
        stream = self._streams.get(subscription)
        if stream is not None:
            self._workers[subscription] = stream
            return
        subscription.renew_mailbox(self._spillway)
        if subscription.delivery == "thread":
            worker = ThreadWorker(subscription, self._services)
            worker.start()
            self._workers[subscription] = worker
        elif subscription.delivery == "process":
            self._workers[subscription] = self._feed(subscription)
        else:
            task = LoopWorker(subscription, self._services)
            self._workers[subscription] = task
            self._loop_host().add(task)

    def _feed(self, subscription: Subscription) -> ProcessWorker:
        if self._feeder is None:
            self._feeder = Feeder(self._runs)
            self._feeder.hurried = self._starting
            self._feeder.start()
        self._num_processed += 1
        worker = ProcessWorker(subscription, self._services, self._num_processed, self._feeder.wake)
        self._feeder.add(worker)
        return worker

    def note_run(self, link: RunLink, *, is_open: bool) -> None:
        """Tells handlers' processes which runs are open."""
        key = (*link.key, int(link.header["rank"]))
        self._runs = {k for k in self._runs if k != key} | ({key} if is_open else set())
        if self._feeder is not None:
            self._feeder.note_run(*key, is_open=is_open)

    def _loop_host(self) -> LoopHost:
        if self._loop is None or self._loop.ended.is_set():
            self._loop = LoopHost()
            self._host_loop = False
            self._loop.start_own_loop(self._backend)
        return self._loop

    def begin(self, subscriptions: Iterable[Subscription]) -> None:
        """Starts a worker for each subscription; nothing runs yet that they could hold up."""
        self._starting = True
        for subscription in subscriptions:
            self.hire(subscription)

    def wait_ready(self, deadline: float) -> None:
        """Waits for the set-up of all workers.

        Raises:
            DeliveryError: a required one failed or was not done by the deadline.
        """
        try:
            self._wait_ready(deadline)
        finally:
            self._starting = False
            if self._feeder is not None:
                self._feeder.step_back()

    def _wait_ready(self, deadline: float) -> None:
        self._oversight.begin()
        for subscription, worker in list(self._workers.items()):
            if isinstance(worker, LoopWorker) and self._on_loop():
                continue
            done = worker.ready.wait(max(0.0, deadline - time.monotonic()))
            if done and worker.error is None:
                continue
            why = f"open() failed: {worker.error!r}" if done else "open() did not return in time"
            if subscription.options.required:
                raise DeliveryError(
                    f"Subscriber {subscription.name} was asked for and could not be set up: {why}. "
                    "Mend it, or leave it out."
                ) from worker.error
            if not done:
                worker.handling.open_failed(why)
                if isinstance(worker, ProcessWorker):
                    worker.leave()

    def wake(self, workers: Iterable[Worker]) -> None:
        """Lets workers on event loops look at their mailboxes; waits for nobody."""
        loop = self._loop
        for worker in workers:
            if isinstance(worker, LoopWorker):
                if loop is not None:
                    loop.mark(worker)
            elif isinstance(worker, ProcessWorker):
                worker.wake()
            elif isinstance(worker, StreamWorker):
                self._to_wake[worker] = None
        self.wake_some_readers()
        if loop is not None:
            loop.flush_wakes()

    def wake_some_readers(self) -> None:
        """Wakes the next few of the readers that have mail, unless some were woken just now.

        A reader costs some 10 us of Python each time that it is woken, and takes all that has come
        by then: a hundred of them are woken in turn, each 16 times a second, so that the training
        thread does not feel them. For the pump, which calls it at each tick.
        """
        if not self._to_wake:
            return
        now = time.monotonic()
        if now < self._wake_at:
            return
        self._wake_at = now + WAKE_EVERY_S
        some = list(itertools.islice(self._to_wake, WOKEN_TOGETHER))
        for worker in some:
            del self._to_wake[worker]
        wake_readers(some)

    def wait_settled(self, deadline: float) -> bool:
        """Waits until all mail accepted so far has been dealt with; False at the deadline.

        Nobody waits for a subscriber that is stuck, for one whose handler is what is waiting, nor
        on an event loop for its own handlers.
        """
        targets = [
            (worker, worker.mailbox.accepted)
            for worker in list(self._workers.values())
            if not isinstance(worker, StreamWorker) and not self._is_caller(worker)
        ]
        countdown = Countdown(deadline)
        for worker, target in targets:
            while not worker.handling.account.stuck:
                if worker.mailbox.wait_settled(target, countdown.slice_s()):
                    break
                if countdown.over():
                    return False
                countdown.say(w for w, _ in targets)
        return True

    def _is_caller(self, worker: Worker) -> bool:
        if isinstance(worker, ThreadWorker):
            return worker.stack_thread == threading.get_ident()
        return not isinstance(worker, ProcessWorker) and self._on_loop()

    def _on_loop(self) -> bool:
        return self._loop is not None and self._loop.here

    def serves_caller(self) -> bool:
        """Whether the caller is a handler in a worker's own thread."""
        return any(
            isinstance(worker, ThreadWorker) and self._is_caller(worker)
            for worker in list(self._workers.values())
        )

    def retire(self, subscription: Subscription) -> None:
        """Lets a worker finish its mail and go, after unsubscribing."""
        worker = self._workers.pop(subscription, None)
        stream = self._streams.pop(subscription, None)
        if stream is not None:
            stream.end()
            stream.notify()
        if isinstance(worker, Hired):
            with self._lock:
                self._leaving.append(worker)
            worker.mailbox.close()
            if isinstance(worker, ProcessWorker):
                worker.wake()
            elif isinstance(worker, LoopWorker) and self._loop is not None:
                self._loop.wake([worker])

    def dismiss(self, deadline: float) -> None:
        """Ends all workers: mail, teardown, threads. What is late is dropped and said."""
        with self._lock:
            leaving, self._leaving = self._leaving, []
        present = list(self._workers.values())
        workers = [w for w in (*present, *leaving) if isinstance(w, Hired)]
        # The pump has ended, and nobody else would.
        to_wake, self._to_wake = self._to_wake, {}
        wake_readers(to_wake)
        dismiss(workers, self._loop, deadline)
        self._workers = {}
        feeder, self._feeder = self._feeder, None
        if feeder is not None:
            feeder.end(deadline)
        if self._loop is not None and not self._host_loop:
            self._loop.close()
            thread, self._loop = self._loop.own_thread, None
            if thread is not None:
                thread.join(1.0 if all(w.finished.is_set() for w in workers) else 0.1)

    def end_streams(self) -> None:
        """Lets the readers of streams come to an end; the bus is closed."""
        for stream in list(self._streams.values()):
            stream.mailbox.close()
            stream.notify()

    def make_inert(self) -> None:
        """Closes the pipes to handlers' processes, in a forked child. Takes no lock."""
        feeder, self._feeder = self._feeder, None
        if feeder is not None:
            feeder.make_inert()

    def look(self, now: float) -> None:
        """Notices handlers over their time-out, and those that take much of the run's time."""
        for worker in list(self._workers.values()):
            if isinstance(worker, ThreadWorker):
                self._oversight.look(worker, now)
        with self._lock:
            self._leaving = [worker for worker in self._leaving if not worker.finished.is_set()]
