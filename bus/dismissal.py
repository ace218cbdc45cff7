"""The end of workers: all drain and tear down side by side, and whoever is late is left behind."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence

from .diagnostics import get_logger
from .loop_host import LoopHost
from .loop_worker import LoopWorker
from .process_worker import ProcessWorker
from .thread_worker import ThreadWorker
from .waiting import Countdown
from .worker import Worker

log = get_logger()

GRACE_S = 1.0
KILL_WITHIN_S = 5.0
LAST_WORDS_S = 0.5
"""What those who want to be told that the time is nearly over get after that, in any case."""
GRACE_SHARE = 0.2
"""The last part of the time, at most GRACE_S, in which those still at work are told to stop."""


Hired = ThreadWorker | LoopWorker | ProcessWorker
"""The workers that a bus starts and ends."""


def dismiss(workers: Sequence[Hired], loop: LoopHost | None, deadline: float) -> None:
    """Lets workers handle their mail and tear down, until the deadline (monotonic, s).

    Shortly before it the rest of the mail is dropped and async handlers are cancelled; what has
    not ended then is left behind, or killed where it is a process, named with the place where it
    stands.
    """
    left = max(0.0, deadline - time.monotonic())
    grace = min(GRACE_S, left * GRACE_SHARE)
    for worker in workers:
        worker.mailbox.close()
        if isinstance(worker, ProcessWorker):
            worker.wake()
    tasks = [worker for worker in workers if isinstance(worker, LoopWorker)]
    if loop is not None:
        loop.wake(tasks)
        if loop.here:
            # On their own loop they can only end after this call has returned.
            workers = [worker for worker in workers if not isinstance(worker, LoopWorker)]
    _wait_finished(workers, deadline - grace)
    late = [worker for worker in workers if not worker.finished.is_set()]
    for worker in late:
        if not isinstance(worker, LoopWorker):
            worker.abandon()
        elif loop is not None:
            loop.cancel([worker])
    heeds = any(worker.subscription.hurry is not None for worker in late)
    _wait_finished(late, max(deadline, time.monotonic() + (LAST_WORDS_S if heeds else 0.05)))
    for worker in workers:
        if isinstance(worker, ProcessWorker):
            if not worker.finished.is_set():
                _kill(worker)
        elif not worker.finished.is_set():
            _leave_behind(worker)
        elif isinstance(worker, ThreadWorker):
            worker.join(1.0)
    _report_undelivered(workers)


def _wait_finished(workers: Sequence[Worker], deadline: float) -> None:
    countdown = Countdown(deadline)
    for worker in workers:
        while not worker.handling.account.stuck:
            if worker.finished.wait(countdown.slice_s()) or countdown.over():
                break
            countdown.say(workers)


def _leave_behind(worker: ThreadWorker | LoopWorker) -> None:
    account = worker.handling.account
    known = account.stuck
    account.stuck = True
    if account.busy_since is not None and not known:
        account.failed += 1  # The event that it is in the middle of.
    account.busy_since = None
    discarded = worker.mailbox.discard()
    worker.handling.drop("stuck", discarded)
    if known and not discarded:
        return
    name, place = worker.subscription.name, _place(worker)
    lost = f"{discarded} events were not delivered."
    if isinstance(worker, LoopWorker):
        log.error(f"subscriber {name} blocks its event loop in {place}: it is left behind, {lost}")
        return
    frame = sys._current_frames().get(worker.stack_thread or 0)
    stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
    log.error(
        f"subscriber {name} is stuck in {place}: its thread is left behind, {lost} It stands at\n"
        f"{stack}"
    )


def _place(worker: Worker) -> str:
    event = worker.handling.event
    if worker.phase == "handlers" and event is not None:
        return f"its handler of {event.name} (step {event.step})"
    return f"its {worker.phase}"


def _kill(worker: ProcessWorker) -> None:
    name, place, mailbox = worker.subscription.name, _place(worker), worker.mailbox
    num_left = mailbox.accepted - mailbox.settled
    log.error(
        f"subscriber {name} does not return from {place}: its process is killed, {num_left} events "
        "were not delivered"
    )
    worker.end_by_force(KILL_WITHIN_S)


def _report_undelivered(workers: Sequence[Worker]) -> None:
    late = [
        f"{worker.subscription.name}: {worker.handling.account.dropped['deadline']}"
        for worker in workers
        if worker.handling.account.dropped.get("deadline")
    ]
    if late:
        log.error(f"events that were not delivered by the deadline: {', '.join(late)}")
