"""What each subscriber cost: handled, lag, time, drops by cause, errors."""

from __future__ import annotations

from pydantic import BaseModel

from ..schemas.values import FROZEN


class LedgerRow(BaseModel):
    """The account of one subscriber, as it stood when it was read."""

    model_config = FROZEN

    subscriber: str
    """Who."""
    delivery: str
    """Where its handler runs: loop, thread or gate."""
    handled: int = 0
    """Events handled."""
    pending: int = 0
    """Events that wait in its mailbox."""
    peak_pending: int = 0
    """Most events that ever waited."""
    lag_s: float = 0.0
    """From the emission of the last handled event to the start of its handler, s."""
    max_lag_s: float = 0.0
    """The longest such lag, s."""
    handler_s: float = 0.0
    """Wall time in its handler, s."""
    cpu_s: float = 0.0
    """Processor time in its handler, s; 0 on the event loop, where it cannot be told apart."""
    votes: int = 0
    """Votes that it cast."""
    waits: int = 0
    """Device values that the training thread had to wait for because of it."""
    wait_s: float = 0.0
    """How long it waited for them, s."""
    failures: int = 0
    """Events whose handler failed for good."""
    retries: int = 0
    """Calls made again after a failure."""
    dropped: dict[str, int] = {}
    """Events that it did not get, by cause: overflow, quarantine, deadline, stuck."""
    quarantined: str = ""
    """Why it gets no further events; empty while it does."""
    stuck: bool = False
    """True when its handler never returned: its thread was left behind."""

    @property
    def num_dropped(self) -> int:
        """Events that it did not get, whatever the cause."""
        return sum(self.dropped.values())


class Account:
    """The running account of one subscriber; written by whoever runs its handler."""

    __slots__ = (
        "busy_since",
        "cpu_s",
        "delivery",
        "dropped",
        "failures",
        "failures_in_a_row",
        "handled",
        "handler_s",
        "handling",
        "lag_s",
        "max_lag_s",
        "named_for_cost",
        "quarantined",
        "retries",
        "stuck",
        "subscriber",
        "votes",
        "wait_s",
        "waits",
    )

    def __init__(self, subscriber: str, delivery: str) -> None:
        self.subscriber = subscriber
        self.delivery = delivery
        self.handled = 0
        self.lag_s = 0.0
        self.max_lag_s = 0.0
        self.handler_s = 0.0
        self.cpu_s = 0.0
        self.votes = 0
        self.waits = 0
        self.wait_s = 0.0
        self.failures = 0
        self.failures_in_a_row = 0
        self.retries = 0
        self.dropped: dict[str, int] = {}
        self.quarantined = ""
        self.stuck = False
        self.named_for_cost = False
        self.busy_since: float | None = None
        self.handling = ""

    def note_lag(self, lag_s: float) -> None:
        """Notes how old an event was when its handler started."""
        self.lag_s = lag_s
        if lag_s > self.max_lag_s:
            self.max_lag_s = lag_s

    def drop(self, cause: str, count: int = 1) -> None:
        """Notes events that were not delivered."""
        if count:
            self.dropped[cause] = self.dropped.get(cause, 0) + count

    def row(self, pending: int = 0, peak_pending: int = 0) -> LedgerRow:
        """The account as it stands."""
        return LedgerRow(
            subscriber=self.subscriber,
            delivery=self.delivery,
            handled=self.handled,
            pending=pending,
            peak_pending=peak_pending,
            lag_s=self.lag_s,
            max_lag_s=self.max_lag_s,
            handler_s=self.handler_s,
            cpu_s=self.cpu_s,
            votes=self.votes,
            waits=self.waits,
            wait_s=self.wait_s,
            failures=self.failures,
            retries=self.retries,
            dropped=dict(self.dropped),
            quarantined=self.quarantined,
            stuck=self.stuck,
        )
