"""A subscriber's account in the trainer, kept by what processes one after another report of it."""

from __future__ import annotations

from typing import Any

from ..ledger import Account

SUMS = (
    *("handled", "passed_over", "failed", "handler_s", "cpu_s", "votes", "failures", "retries"),
)
"""What is added up; the rest is the newest, or the largest."""


class Reported:
    """Adds what a process reports to an account; each process counts from zero."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._former: dict[str, Any] = {}
        self._began_at = 0
        self._num_again = 0

    def begin(self, settled: int, num_again: int = 0) -> None:
        """Expects the first report of another process, which `settled` events are not sent to.

        What the former one handled and did not acknowledge is handled again, and counts once; so do
        the `num_again` events that tell the other one how runs began.
        """
        self._account.handled -= max(0, self._num_told() - (settled - self._began_at))
        self._former = {}
        self._began_at = settled
        self._num_again = num_again

    def _num_told(self) -> int:
        former = self._former
        if not former:
            return 0
        dropped = sum(former["dropped"].values())
        return int(former["handled"] + former["passed_over"] + former["failed"] + dropped)

    def take(self, report: dict[str, Any]) -> None:
        """Adds what has come since the last report."""
        if not report:
            return
        report = {**report, "handled": max(0, report["handled"] - self._num_again)}
        account, former = self._account, self._former
        for name in SUMS:
            added = report[name] - former.get(name, 0)
            setattr(account, name, getattr(account, name) + added)
        before = former.get("dropped", {})
        for cause, count in report["dropped"].items():
            account.drop(cause, count - before.get(cause, 0))
        account.lag_s = report["lag_s"]
        account.max_lag_s = max(account.max_lag_s, report["max_lag_s"])
        account.quarantined = account.quarantined or report["quarantined"]
        self._former = report
