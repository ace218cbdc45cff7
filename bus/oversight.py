"""What the pump notices about threads at work: handlers over their time-out, handlers that cost."""

from __future__ import annotations

import time
from collections.abc import Callable

from .diagnostics import get_logger
from .remedies import elsewhere
from .thread_worker import ThreadWorker

log = get_logger()

COSTLY_SHARE = 0.05
"""A handler that takes more of the run's time in Python than this is named, once."""
WINDOW_S = 30.0
"""The time over which a share is taken: one dear first call is no habit."""


class Oversight:
    """Looks at the workers in threads, from the pump."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._windows: dict[ThreadWorker, tuple[float, float]] = {}

    def begin(self) -> None:
        """Starts the time that shares are taken of."""
        self._windows = {}

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
        now = self._monotonic()
        began, cpu_s = self._windows.setdefault(worker, (now, account.cpu_s))
        if account.named_for_cost or now - began < WINDOW_S:
            return
        self._windows[worker] = (now, account.cpu_s)
        share = (account.cpu_s - cpu_s) / (now - began)
        if share > COSTLY_SHARE:
            account.named_for_cost = True
            log.warning(
                f"subscriber {account.subscriber} takes {share:.0%} of the run's time in Python, "
                "which the training thread has to wait for: give it fewer events (every=), or "
                f"{elsewhere()}."
            )
