"""What each subscriber cost: handled, lag, time, memory, drops by cause, waits, errors."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator
from typing import overload

from pydantic import BaseModel

from ..schemas.values import FROZEN
from . import trouble
from .ledger_table import as_text, run_lines
from .run_account import RunCost

ADDED = (
    *("accepted", "handled", "passed_over", "failed", "pending", "bytes_held", "handler_s"),
    *("spilled", "bytes_on_disk"),
    *("cpu_s", "votes", "waits", "wait_s", "failures", "retries", "fell_behind"),
)
"""What of two rows of one subscriber is added when they are merged."""


class LedgerRow(BaseModel):
    """The account of one subscriber, as it stood when it was read."""

    model_config = FROZEN

    subscriber: str
    """Who."""
    delivery: str
    """Where its handler runs: loop, thread, process or gate."""
    overflow: str = ""
    """What happens when its mailbox is full; empty in the gate, which has none."""
    accepted: int = 0
    """Events that it was to get: handled, failed, passed over, dropped, or still to come."""
    handled: int = 0
    """Events handled."""
    passed_over: int = 0
    """Events that its predicate (`when=`) turned away."""
    failed: int = 0
    """Events whose handler failed for good."""
    pending: int = 0
    """Events that wait in its mailbox."""
    peak_pending: int = 0
    """Most events that ever waited."""
    bytes_held: int = 0
    """About how much memory the waiting events take, bytes; by a sample of them. An event that
    waits for several is counted with each."""
    peak_bytes: int = 0
    """About how much they took when most of them waited, bytes."""
    spilled: int = 0
    """Of those accepted, events that went through the log on disk, since it had fallen behind."""
    bytes_on_disk: int = 0
    """About what the waiting events take there, bytes. An event that waits for several is written
    once, and counted with each."""
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
    """What went wrong in all: failed events, set-up, teardown, time-outs, votes that are none."""
    retries: int = 0
    """Calls made again after a failure."""
    dropped: dict[str, int] = {}
    """Events that it did not get, by cause: overflow, quarantine, deadline, stuck, disk."""
    behind: bool = False
    """Whether it falls behind: events come faster than it handles them."""
    fell_behind: int = 0
    """How often it began to."""
    remedy: str = ""
    """What would have helped when it fell behind last: `logging_steps=20 would do`."""
    quarantined: str = ""
    """Why it gets no further events; empty while it does."""
    stuck: bool = False
    """True when its handler never returned: its thread was left behind."""

    @property
    def num_dropped(self) -> int:
        """Events that it did not get, whatever the cause."""
        return sum(self.dropped.values())

    @property
    def trouble(self) -> str:
        """What was off with it, in a line; empty if nothing was."""
        return trouble.line(self)

    def merged_with(self, other: LedgerRow) -> LedgerRow:
        """One row of two that each counted a part of what the subscriber cost.

        Counts and times are added; of what is a maximum, the larger stays. Name, delivery and
        policy are those of this row, the lag that of the other where it has handled anything.
        """
        dropped = Counter(self.dropped)
        dropped.update(other.dropped)
        fields: dict[str, object] = {
            name: getattr(self, name) + getattr(other, name) for name in ADDED
        }
        return self.model_copy(
            update={
                **fields,
                "peak_pending": max(self.peak_pending, other.peak_pending),
                "peak_bytes": max(self.peak_bytes, other.peak_bytes),
                "max_lag_s": max(self.max_lag_s, other.max_lag_s),
                "lag_s": other.lag_s if other.handled else self.lag_s,
                "dropped": dict(dropped),
                "behind": self.behind or other.behind,
                "remedy": self.remedy or other.remedy,
                "quarantined": self.quarantined or other.quarantined,
                "stuck": self.stuck or other.stuck,
            }
        )


class Ledger(BaseModel):
    """What a run cost, and each of its subscribers, as it stood when it was read.

    Iterating gives the rows. Printing shows them as a table:

        print(trainer.ledger)
        trainer.ledger["TensorBoardCallback"].bytes_held
        trainer.ledger.run.mean_us
    """

    model_config = FROZEN

    rows: tuple[LedgerRow, ...] = ()
    """The subscribers in their order, then what runs in the gate."""
    runs: tuple[RunCost, ...] = ()
    """What each open run cost; of `run.ledger`, that run alone."""

    @property
    def run(self) -> RunCost | None:
        """What the run cost; of several that are open, the first. None where none is."""
        return self.runs[0] if self.runs else None

    @property
    def troubles(self) -> tuple[str, ...]:
        """What was off, a line for each subscriber that something was off with."""
        return tuple(row.trouble for row in self.rows if row.trouble)

    @property
    def gate_s(self) -> float:
        """Time that the training thread spent in gate handlers, at any event, s."""
        return sum(row.handler_s for row in self.rows if row.delivery == "gate")

    @property
    def bytes_held(self) -> int:
        """About how much memory waiting events take, bytes."""
        return sum(row.bytes_held for row in self.rows)

    @property
    def run_lines(self) -> tuple[str, ...]:
        """What the runs cost, in words."""
        return tuple(line for run in self.runs for line in run_lines(run))

    def __iter__(self) -> Iterator[LedgerRow]:  # type: ignore[override]
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, which: int | str) -> LedgerRow: ...
    @overload
    def __getitem__(self, which: slice) -> tuple[LedgerRow, ...]: ...
    def __getitem__(self, which: int | str | slice) -> LedgerRow | tuple[LedgerRow, ...]:
        """A row by its place, or by the subscriber's name.

        Raises:
            KeyError: no subscriber has that name.
        """
        if not isinstance(which, str):
            return self.rows[which]
        for row in self.rows:
            if row.subscriber == which:
                return row
        names = ", ".join(row.subscriber for row in self.rows)
        raise KeyError(f"{which!r} is not in the ledger, which has: {names or 'nobody'}.")

    def __str__(self) -> str:
        return as_text(self.rows, self.runs)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


class Account:
    """The running account of one subscriber; written by whoever runs its handler."""

    __slots__ = (
        "behind",
        "busy_since",
        "cpu_s",
        "delivery",
        "dropped",
        "failed",
        "failures",
        "failures_in_a_row",
        "fell_behind",
        "handled",
        "handler_s",
        "handling",
        "lag_s",
        "max_lag_s",
        "named_for_cost",
        "passed_over",
        "quarantined",
        "remedy",
        "retries",
        "stuck",
        "subscriber",
        "turned_away",
        "votes",
        "wait_s",
        "waits",
    )

    def __init__(self, subscriber: str, delivery: str) -> None:
        self.subscriber = subscriber
        self.delivery = delivery
        self.handled = 0
        self.passed_over = 0
        self.failed = 0
        self.turned_away = 0
        """Of those dropped, events that did not get as far as the mailbox."""
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
        self.behind = False
        self.fell_behind = 0
        self.remedy = ""
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

    @property
    def settled(self) -> int:
        """Events that it was to get and that are dealt with, whatever came of them."""
        dropped = sum(self.dropped.values())
        return self.handled + self.failed + self.passed_over + dropped

    def row(
        self,
        pending: int = 0,
        peak_pending: int = 0,
        *,
        accepted: int | None = None,
        overflow: str = "",
        bytes_each: float = 0.0,
        in_memory: int = 0,
        most_in_memory: int = 0,
        spilled: int = 0,
        bytes_on_disk: int = 0,
    ) -> LedgerRow:
        """The account as it stands; where nothing is told, all that was accepted is settled."""
        dropped = dict(self.dropped)
        return LedgerRow(
            subscriber=self.subscriber,
            delivery=self.delivery,
            overflow=overflow,
            accepted=self.settled if accepted is None else accepted + self.turned_away,
            handled=self.handled,
            passed_over=self.passed_over,
            failed=self.failed,
            pending=pending,
            peak_pending=peak_pending,
            bytes_held=round(bytes_each * in_memory),
            peak_bytes=round(bytes_each * most_in_memory),
            spilled=spilled,
            bytes_on_disk=bytes_on_disk,
            lag_s=self.lag_s,
            max_lag_s=self.max_lag_s,
            handler_s=self.handler_s,
            cpu_s=self.cpu_s,
            votes=self.votes,
            waits=self.waits,
            wait_s=self.wait_s,
            failures=self.failures,
            retries=self.retries,
            dropped=dropped,
            behind=self.behind and pending > 0,
            fell_behind=self.fell_behind,
            remedy=self.remedy,
            quarantined=self.quarantined,
            stuck=self.stuck,
        )
