"""What the pump notices about threads at work: handlers over their time-out, handlers that cost."""

from __future__ import annotations

import time

from .diagnostics import get_logger
from .thread_worker import ThreadWorker

log = get_logger()

COSTLY_SHARE = 0.05
"""A handler that takes more of the run's time in Python than this is named, once."""
COSTLY_AFTER_S = 10.0


class Oversight:
    """Looks at the workers in threads, from the pump."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def begin(self) -> None:
        """Starts the time that shares are taken of."""
        self._begun = time.monotonic()

    def look(self, worker: ThreadWorker, now: float) -> None:
        """Notices a time-out at `now` (the bus's clock), or a large share of the run's time."""
        timeout = worker.subscription.options.timeout
        account = worker.handling.account
        since = account.busy_since
        if timeout is not None and since is not None and now - since > timeout:
            if not account.stuck:
                worker.mailbox.close()
                worker.handling.timed_out(timeout)
                worker.handling.drop("stuck", worker.mailbox.discard())
            return
        self._look_at_cost(worker)

    def _look_at_cost(self, worker: ThreadWorker) -> None:
        account = worker.handling.account
        elapsed = time.monotonic() - self._begun
        if account.named_for_cost or elapsed < COSTLY_AFTER_S:
            return
        share = account.cpu_s / elapsed
        if share > COSTLY_SHARE:
            account.named_for_cost = True
            log.warning(
                f"subscriber {account.subscriber} takes {share:.0%} of the run's time in Python, "
                "which the training thread has to wait for: give it fewer events (every=), or hand "
                "its work to another process."
            )
