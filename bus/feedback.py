"""What comes back from handlers: votes, measured values, and the news that one of them failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..schemas import Event, Measured, Verdict, Vote
from .clock import Clock
from .control_channel import ControlChannel
from .diagnostics import get_logger
from .published import Published
from .roster import Roster
from .subscription import Subscription

log = get_logger()

MOST_LATE = 10_000
"""Of so many late votes it is remembered that they were put on record."""


class Feedback:
    """The side of the bus that handlers talk to; from any thread."""

    def __init__(
        self,
        roster: Roster,
        channel: ControlChannel,
        append: Callable[[Any], None],
    ) -> None:
        self.clock: Clock = channel.clock
        self._roster = roster
        self._channel = channel
        self._append = append
        self._late: set[tuple[str, str, str]] = set()
        self._unlogged: set[tuple[str, str]] = set()

    def post(self, vote: Vote, event: Event | None) -> None:
        """Casts a vote that a handler returned; it belongs to the run of its event."""
        if event is None or not event.run_id:
            self._channel.post(vote)
        elif not self._channel.post(vote, run_id=event.run_id):
            self.too_late(vote, event.run_id, event)

    def measured(self, measured: Measured, event: Event, by: str) -> None:
        """Takes values that a handler returned, for the next log of its event's run; what comes
        after the last one is said, once a run and subscriber."""
        link = self._roster.link_of(event.run_id)
        if link is not None and link.measured.add(measured.values):
            return
        key = (event.run_id, by)
        if key not in self._unlogged and len(self._unlogged) < MOST_LATE:
            self._unlogged.add(key)
            log.info(
                f"{by} measured {', '.join(measured.values)} on {event.name} (step {event.step}) "
                "after the run's last log: it is in no log."
            )

    def too_late(self, vote: Vote, run_id: str, event: Event | None = None) -> None:
        """Puts a vote for a run that has ended on record; of one voter and action once."""
        key = (run_id, vote.voter, vote.action)
        if key in self._late or len(self._late) >= MOST_LATE:
            return
        self._late.add(key)
        seen = f" on {event.name} (step {event.step})" if event is not None else ""
        log.warning(
            f"{vote.voter} voted {vote.action!r}{seen} after run {run_id} had ended: recorded as "
            "late, nothing is done."
        )
        attempt, numbering = self._roster.ended.get(run_id, (1, None))
        verdict = Verdict(
            run_id=run_id,
            attempt=event.attempt if event is not None else attempt,
            step=event.step if event is not None else 0,
            action=vote.action,
            outcome="late",
            votes=(vote,),
            point=event.name if event is not None else "",
            seen_at=vote.step,
            acted_at=event.step if event is not None else 0,
            detail="the run had ended when the vote arrived",
        )
        if event is not None:
            verdict.attach_state_of(event)
        self._append(Published(verdict, None, self.clock.monotonic(), numbering))

    def report_failure(self, subscription: Subscription, event: Event | None, error: str) -> None:
        """Publishes `subscriber_failed` for all others to know.

        A failure on a `subscriber_failed` makes no further one: two who fail on each other's
        failures would go on for ever.
        """
        if event is not None and event.name == "subscriber_failed":
            return
        account = subscription.account
        values = {
            "subscriber": subscription.name,
            "event_name": event.name if event is not None else "",
            "event_seq": event.seq if event is not None else -1,
            "error": error,
            "failures": account.failures,
            "quarantined": bool(account.quarantined),
        }
        for link in self._roster.links:
            if event is None or link.run_id == event.run_id:
                emitter = link.emitters["subscriber_failed"]
                if emitter.wanted:
                    emitter.emit(values, note=subscription)

    def report_behind(self, subscription: Subscription, values: dict[str, Any]) -> None:
        """Publishes `subscriber_behind` for all others to know."""
        for link in self._roster.links:
            emitter = link.emitters["subscriber_behind"]
            if emitter.wanted:
                emitter.emit({"subscriber": subscription.name, **values}, note=subscription)
