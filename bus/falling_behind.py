"""Names subscribers that fall behind, while they do, with what would help."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from .backlog import Backlog, Mark, Pace
from .diagnostics import get_logger
from .mailbox import LOSSY
from .remedies import Waiting, computes, elsewhere, fewer_events
from .subscription import Subscription
from .worker import Worker

log = get_logger()

SAMPLE = 64
"""Waiting events that are looked at for what they are."""

Report = Callable[[Subscription, dict[str, Any]], None]


class FallingBehind:
    """Watches the mailboxes of a bus, from the pump.

    Who drops events by its policy is left alone: that is its way of keeping up.

    Args:
        report: publishes `subscriber_behind`, given the subscriber and the event's fields.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._backlogs: dict[Worker, Backlog] = {}

    def look(self, workers: Iterable[Worker], now: float) -> None:
        """Notices who falls behind, or has caught up, at `now` (the bus's clock)."""
        watched = {worker: self._backlogs.get(worker) for worker in workers if _is_watched(worker)}
        self._backlogs = {worker: backlog or Backlog() for worker, backlog in watched.items()}
        for worker, backlog in self._backlogs.items():
            mailbox = worker.mailbox
            mark = Mark(now, mailbox.accepted, mailbox.worked, mailbox.accepted - mailbox.settled)
            change = backlog.look(mark)
            if change == "behind" and backlog.pace is not None:
                self._name(worker, backlog.pace)
            elif change:
                self._unname(worker, mark.waiting)

    def _name(self, worker: Worker, pace: Pace) -> None:
        subscription = worker.subscription
        waiting = Waiting(*subscription.sample(SAMPLE))
        remedy = fewer_events(subscription, waiting, pace)
        if computes(subscription):
            remedy += f"; it computes in Python, so {elsewhere()}"
        account = subscription.account
        account.behind, account.remedy = True, remedy
        account.fell_behind += 1
        log.warning(f"subscriber {account.subscriber} falls behind: {_words(pace)}. {remedy}.")
        self._report(
            subscription,
            {
                "waiting": pace.waiting,
                "kind": waiting.most()[0],
                "arriving_per_s": pace.arriving,
                "handled_per_s": pace.handled,
                "lag_s": account.lag_s,
                "remedy": remedy,
            },
        )

    def _unname(self, worker: Worker, waiting: int) -> None:
        account = worker.subscription.account
        account.behind = False
        log.info(f"subscriber {account.subscriber} has caught up")
        self._report(
            worker.subscription, {"waiting": waiting, "lag_s": account.lag_s, "caught_up": True}
        )


def _is_watched(worker: Worker) -> bool:
    account, mailbox = worker.handling.account, worker.mailbox
    return (
        worker.phase == "handlers"
        and not mailbox.closed
        and mailbox.overflow not in LOSSY
        and not account.quarantined
        and not account.stuck
    )


def _words(pace: Pace) -> str:
    if not pace.handled:
        return f"it has handled nothing for {pace.seconds:.0f} s, and {pace.waiting:,} events wait"
    return (
        f"{_rate(pace.arriving)} events a second come, it handles {_rate(pace.handled)}, and "
        f"{pace.waiting:,} wait"
    )


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.2g}"
