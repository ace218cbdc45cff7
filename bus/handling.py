"""What surrounds one call of a handler: predicate, clock, votes, failures, quarantine."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Protocol

from ..schemas import Event, Vote
from .clock import Clock
from .diagnostics import get_logger
from .handler import votes_of
from .lease import Lease
from .subscription import Route, Subscription

log = get_logger()

RETRY_DELAY_S = 0.1
"""Before the first retry; doubled each time, at most RETRY_DELAY_MAX_S."""
RETRY_DELAY_MAX_S = 5.0


class Services(Protocol):
    """What a worker needs of the bus."""

    clock: Clock

    def post(self, vote: Vote, event: Event) -> None:
        """Casts a vote that a handler returned."""

    def report_failure(self, subscription: Subscription, event: Event | None, error: str) -> None:
        """Publishes `subscriber_failed`."""


class Handling:
    """Calls one subscription's handlers, for one worker."""

    def __init__(self, subscription: Subscription, services: Services) -> None:
        self.subscription = subscription
        self.account = subscription.account
        self._services = services
        self._routes: dict[type[Event], Route | None] = {}
        self._named: set[tuple[str, str]] = set()

    def route(self, event: Event) -> Route | None:
        """The handler for an event."""
        kind = type(event)
        try:
            return self._routes[kind]
        except KeyError:
            route = self._routes[kind] = self.subscription.route(kind)
            return route

    def begin(self, event: Event) -> Callable[[Event], object] | None:
        """The handler to call now, or None where the event is passed over."""
        route = self.route(event)
        if route is None:
            return None
        account = self.account
        if account.quarantined:
            account.drop("quarantine")
            return None
        predicate = route.filter.when
        if predicate is not None:
            try:
                if not predicate(event):
                    return None
            except Exception as error:
                self.failed(event, error, final=True)
                return None
        now = self._services.clock.monotonic()
        account.note_lag(max(0.0, now - event.monotonic))
        account.handling = event.name
        account.busy_since = now
        return route.handler

    def succeeded(self, event: Event, result: object) -> None:
        """Takes the votes that a handler returned."""
        account = self.account
        account.busy_since = None
        account.handled += 1
        account.failures_in_a_row = 0
        if result is None:
            return
        try:
            votes = votes_of(result, self.subscription.name, event.step)
        except TypeError as error:
            self.failed(event, error, final=True)
            return
        account.votes += len(votes)
        for vote in votes:
            self._services.post(vote, event)

    def failed(self, event: Event, error: BaseException, *, tries: int = 1, final: bool = False) -> float | None:
        """Counts a failure; the delay in seconds before the next try, or None to go on."""
        account = self.account
        account.busy_since = None
        if not final and tries <= self.subscription.options.retries:
            account.retries += 1
            return float(min(RETRY_DELAY_MAX_S, RETRY_DELAY_S * 2 ** (tries - 1)))
        account.failures += 1
        account.failures_in_a_row += 1
        options = self.subscription.options
        if account.failures_in_a_row >= options.quarantine_after:
            self.quarantine(f"{account.failures_in_a_row} failures in a row, the last: {_one_line(error)}")
        self._say_once(event, error)
        self._services.report_failure(self.subscription, event, _one_line(error))
        if options.critical:
            text = "".join(traceback.format_exception(error))
            reason = f"the critical subscriber {self.subscription.name} failed on {event.name}:\n{text}"
            voter = self.subscription.name
            self._services.post(
                Vote("stop", voter=voter, reason=reason, critical=True, step=event.step), event
            )
        return None

    def done(self, event: Event) -> None:
        """Lets go of what the event kept for this subscriber: the lease of a checkpoint."""
        if event.name == "save":
            release_lease(event, self.subscription.name)

    def quarantine(self, why: str) -> None:
        """Gives the subscriber no further events; its teardown still runs."""
        if not self.account.quarantined:
            self.account.quarantined = why
            log.error(
                f"subscriber {self.subscription.name} is quarantined and gets no further events ({why}). "
                "The run goes on; the subscriber's close() will still be called."
            )

    def _say_once(self, event: Event, error: BaseException) -> None:
        kind = (event.name, type(error).__name__)
        if kind in self._named:
            return
        self._named.add(kind)
        text = "".join(traceback.format_exception(error)).rstrip()
        log.error(
            f"subscriber {self.subscription.name} failed on {event.name} (step {event.step}); the run "
            f"goes on, later failures of this kind are only counted.\n{text}"
        )


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def release_lease(event: Event, holder: str) -> None:
    """Ends the hold that a delivery had on the folder of a `Save` event."""
    lease: Lease | None = getattr(event, "lease", None)
    if lease is not None:
        lease.release(holder)
