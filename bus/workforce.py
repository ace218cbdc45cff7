"""The workers of a bus: hired when it starts, woken in batches, dismissed with a deadline."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Iterable
from typing import Any

import anyio

from ..schemas.errors import DeliveryError
from .diagnostics import get_logger
from .event_stream import StreamWorker
from .handling import Services
from .loop_host import LoopHost
from .loop_worker import LoopWorker
from .mailbox import Mailbox
from .subscription import Subscription
from .thread_worker import ThreadWorker
from .worker import Worker

log = get_logger()

COUNTDOWN_AFTER_S = 2.0
COUNTDOWN_EVERY_S = 5.0
COSTLY_SHARE = 0.05
"""A handler that takes more of the run's time in Python than this is named, once."""
COSTLY_AFTER_S = 10.0


class Workforce:
    """Runs the subscriptions of one bus."""

    def __init__(self, services: Services, backend: str) -> None:
        self._services = services
        self._backend = backend
        self._workers: dict[Subscription, Worker] = {}
        self._streams: dict[Subscription, StreamWorker] = {}
        self._leaving: list[Worker] = []
        self._loop: LoopHost | None = None
        self._host_loop = False
        self._started = time.monotonic()

    def use_host_loop(self, tasks: anyio.abc.TaskGroup) -> None:
        """Runs async handlers as tasks of a host's own; to be called on its loop."""
        self._loop = LoopHost()
        self._host_loop = True
        tasks.start_soon(self._loop.serve)

    def adopt(self, worker: StreamWorker) -> None:
        """Takes a stream, whose reader does its own work."""
        self._streams[worker.subscription] = worker

    def worker_of(self, subscription: Subscription) -> Worker | None:
        """Who runs a subscription; None while nobody does."""
        return self._workers.get(subscription)

    def hire(self, subscription: Subscription) -> None:
        """Starts a worker for a subscription; its set-up runs there."""
        if subscription.delivery == "gate" or subscription in self._workers:
            return
        stream = self._streams.get(subscription)
        if stream is not None:
            self._workers[subscription] = stream
            return
        subscription.mailbox = self._new_mailbox(subscription)
        if subscription.delivery == "thread":
            worker = ThreadWorker(subscription, self._services)
            self._workers[subscription] = worker
            worker.start()
        else:
            task = LoopWorker(subscription, self._services)
            self._workers[subscription] = task
            self._loop_host().add(task)

    def _new_mailbox(self, subscription: Subscription) -> Mailbox:
        name = subscription.name
        options = subscription.options

        def half_full(waiting: int) -> None:
            log.warning(
                f"subscriber {name} falls behind: {waiting:,} events wait in its mailbox, half of what "
                "is kept in memory. Subscribe with every=, or with overflow='drop_oldest' or 'latest'."
            )

        def dropped(cause: str, count: int) -> None:
            first = cause not in subscription.account.dropped
            subscription.account.drop(cause, count)
            if first and options.overflow == "buffer":
                log.error(f"the mailbox of subscriber {name} is full: it is losing events from now on")

        return Mailbox(
            options.overflow, options.mailbox_size, on_drop=dropped, on_half_full=half_full
        )

    def _loop_host(self) -> LoopHost:
        if self._loop is None or self._loop.ended.is_set():
            self._loop = LoopHost()
            self._loop.start_own_loop(self._backend)
        return self._loop

    def wait_ready(self, deadline: float) -> None:
        """Waits for the set-up of all workers.

        Raises:
            DeliveryError: a required one failed or was not done by the deadline.
        """
        for subscription, worker in list(self._workers.items()):
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
                worker.handling.quarantine(why)

    def wake(self, workers: Iterable[Worker]) -> None:
        """Lets workers on event loops look at their mailboxes; waits for nobody."""
        for worker in workers:
            if isinstance(worker, LoopWorker):
                self._loop_host().mark(worker)
            elif isinstance(worker, StreamWorker):
                worker.notify()
        if self._loop is not None:
            self._loop.flush_wakes()

    def wait_settled(self, deadline: float) -> bool:
        """Waits until all mail accepted so far has been dealt with; False at the deadline."""
        targets = [
            (worker, worker.mailbox.accepted)
            for worker in self._workers.values()
            if not isinstance(worker, StreamWorker) and not worker.handling.account.stuck
        ]
        started = time.monotonic()
        says_at = started + COUNTDOWN_AFTER_S
        for worker, target in targets:
            while not worker.mailbox.wait_settled(target, _slice(deadline, says_at)):
                now = time.monotonic()
                if now >= deadline:
                    return False
                if worker.handling.account.stuck:
                    break
                if now >= says_at:
                    self._say_waiting(deadline - now)
                    says_at = now + COUNTDOWN_EVERY_S
        return True

    def _say_waiting(self, left_s: float) -> None:
        behind = [
            f"{worker.subscription.name} ({len(worker.mailbox)} events wait)"
            for worker in self._workers.values()
            if worker.mailbox.settled < worker.mailbox.accepted
            and not isinstance(worker, StreamWorker)
        ]
        if behind:
            log.warning(f"waiting for subscribers: {', '.join(behind)}; {left_s:.0f} s to go")

    def retire(self, subscription: Subscription) -> None:
        """Lets a worker finish its mail and go, after unsubscribing."""
        worker = self._workers.pop(subscription, None)
        self._streams.pop(subscription, None)
        if worker is None:
            return
        worker.mailbox.close()
        if isinstance(worker, StreamWorker):
            worker.notify()
            return
        if isinstance(worker, LoopWorker):
            self._loop_host().wake([worker])
        self._leaving.append(worker)

    def dismiss(self, deadline: float) -> None:
        """Ends all workers: mail, teardown, threads. What is late is dropped and said."""
        on_time = self.wait_settled(deadline)
        workers = [w for w in (*self._workers.values(), *self._leaving)]
        threads = [w for w in workers if isinstance(w, ThreadWorker)]
        tasks = [w for w in workers if isinstance(w, LoopWorker)]
        for worker in (*threads, *tasks):
            worker.mailbox.close()
        if not on_time:
            for thread in threads:
                if thread.mailbox.settled < thread.mailbox.accepted:
                    thread.abandon()
        if tasks and self._loop is not None:
            self._loop.wake(tasks)
            for task in tasks:
                if not task.finished.wait(max(0.0, deadline - time.monotonic())):
                    self._loop.cancel([task])
        for thread in threads:
            if not thread.join(max(0.2, deadline - time.monotonic())):
                self._leave_behind(thread)
        for task in tasks:
            if not task.finished.wait(max(0.5, deadline - time.monotonic())):
                self._leave_task_behind(task)
        self._end_loop()
        self._report_undelivered(workers)
        self._workers = {}
        self._leaving = []

    def _end_loop(self) -> None:
        if self._loop is None:
            return
        self._loop.close()
        thread = self._loop.own_thread
        if thread is not None:
            thread.join(1.0)
        if not self._host_loop:
            self._loop = None

    def end_streams(self) -> None:
        """Lets the readers of streams come to an end; the bus is closed."""
        for stream in list(self._streams.values()):
            stream.mailbox.close()
            stream.notify()

    def _leave_behind(self, thread: ThreadWorker) -> None:
        account = thread.handling.account
        account.stuck = True
        discarded = thread.mailbox.discard()
        account.drop("stuck", len(discarded))
        for event in discarded:
            thread.handling.done(event)
        frame = sys._current_frames().get(thread.stack_thread or 0)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        log.error(
            f"subscriber {thread.subscription.name} is stuck in its handler of {account.handling or '?'}: "
            f"its thread is left behind, {len(discarded)} events were not delivered. It stands at\n{stack}"
        )

    def _leave_task_behind(self, task: LoopWorker) -> None:
        account = task.handling.account
        account.stuck = True
        discarded = task.mailbox.discard()
        account.drop("stuck", len(discarded))
        for event in discarded:
            task.handling.done(event)
        log.error(
            f"subscriber {task.subscription.name} blocks its event loop in its handler of "
            f"{account.handling or '?'}: it is left behind, {len(discarded)} events were not delivered."
        )

    def _report_undelivered(self, workers: Iterable[Worker]) -> None:
        late = [
            f"{worker.subscription.name}: {worker.handling.account.dropped['deadline']}"
            for worker in workers
            if worker.handling.account.dropped.get("deadline")
        ]
        if late:
            log.error(f"events that were not delivered by the deadline: {', '.join(late)}")

    def look(self, now: float) -> None:
        """Notices handlers over their time-out, and those that take much of the run's time."""
        for worker in list(self._workers.values()):
            if isinstance(worker, ThreadWorker):
                self._look_at_timeout(worker, now)
                self._look_at_cost(worker)
        self._leaving = [worker for worker in self._leaving if not worker.finished.is_set()]

    def _look_at_timeout(self, worker: ThreadWorker, now: float) -> None:
        account = worker.handling.account
        timeout = worker.subscription.options.timeout
        since = account.busy_since
        if timeout is None or since is None or now - since <= timeout or account.stuck:
            return
        account.stuck = True
        error = f"{account.handling} took over {timeout} s"
        account.failures += 1
        worker.handling.quarantine(error + "; its thread is left behind")
        worker.mailbox.close()
        discarded = worker.mailbox.discard()
        account.drop("stuck", len(discarded))
        for event in discarded:
            worker.handling.done(event)
        self._services.report_failure(worker.subscription, None, error)

    def _look_at_cost(self, worker: ThreadWorker) -> None:
        account = worker.handling.account
        elapsed = time.monotonic() - self._started
        if account.named_for_cost or elapsed < COSTLY_AFTER_S:
            return
        share = account.cpu_s / elapsed
        if share > COSTLY_SHARE:
            account.named_for_cost = True
            log.warning(
                f"subscriber {account.subscriber} takes {share:.0%} of the run's time in Python, which "
                "the training thread has to wait for: give it fewer events (every=), or hand its work "
                "to another process."
            )


def _slice(deadline: float, says_at: float) -> float:
    now = time.monotonic()
    return max(0.0, min(deadline - now, max(0.05, says_at - now), 0.5))


