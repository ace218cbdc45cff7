"""What surrounds one call of a handler: predicate, clock, votes, failures, quarantine."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Protocol

from ..schemas import Event, Measured, Vote
from ..schemas.errors import UnreachableError
from .clock import Clock
from .diagnostics import get_logger
from .handler import answers_of
from .subscription import Route, Subscription

log = get_logger()

RETRY_DELAY_S = 0.1
"""Before the first retry; doubled each time, at most RETRY_DELAY_MAX_S."""
RETRY_DELAY_MAX_S = 5.0


class Services(Protocol):
    """What a worker needs of the bus."""

    clock: Clock

    def post(self, vote: Vote, event: Event | None) -> None:
        """Casts a vote that a handler returned."""

    def measured(self, measured: Measured, event: Event, by: str) -> None:
        """Takes values that a handler returned, for the next log of its event's run."""

    def report_failure(self, subscription: Subscription, event: Event | None, error: str) -> None:
        """Publishes `subscriber_failed`."""


class Handling:
    """Calls one subscription's handlers, for one worker."""

    def __init__(self, subscription: Subscription, services: Services) -> None:
        self.subscription = subscription
        self.account = subscription.account
        self.done = subscription.let_go
        """To be called once an event has been dealt with."""
        self.event: Event | None = None
        """What the handler was last called with."""
        self._services = services
        self._monotonic = services.clock.monotonic
        self._routes: dict[type[Event], Route | None] = {}
        self._named: set[tuple[str, str]] = set()
        self._unreachable = False

    def route(self, event: Event) -> Route | None:
        """The handler for an event."""
        kind = type(event)
        try:
            return self._routes[kind]
        except KeyError:
            route = self._routes[kind] = self.subscription.handler_route(kind)
            return route

    def begin(self, event: Event) -> Callable[[Event], object] | None:
        """The handler to call now, or None where the event is passed over."""
        account = self.account
        route = self.route(event)
        if route is None:
            account.passed_over += 1
            return None
        if account.quarantined:
            account.drop("quarantine")
            return None
        predicate = route.filter.when
        if predicate is not None:
            try:
                if not predicate(event):
                    account.passed_over += 1
                    return None
            except Exception as error:
                self.failed(event, error, final=True)
                return None
        now = self._monotonic()
        lag = now - event.monotonic
        account.lag_s = lag = max(0.0, lag)
        if lag > account.max_lag_s:
            account.max_lag_s = lag
        self.event = event
        account.busy_since = now
        return route.handler

    def now(self) -> float:
        """The bus's monotonic time, s."""
        return self._monotonic()

    def again(self) -> None:
        """Notes that a failed call is about to be made once more."""
        self.account.busy_since = self._monotonic()

    def succeeded(self, event: Event, result: object) -> None:
        """Takes the votes and the values that a handler returned."""
        account = self.account
        account.busy_since = None
        account.handled += 1
        account.failures_in_a_row = 0
        self.answered()
        if result is None:
            return
        try:
            votes, measured = answers_of(result, self.subscription.name, event.step)
        except Exception as error:
            # It has done its work, so this is said and counted but brings no quarantine.
            account.failures += 1
            if self._say_once(event, error):
                self._services.report_failure(self.subscription, event, one_line(error))
            return
        account.votes += len(votes)
        for vote in votes:
            self._services.post(vote, event)
        for values in measured:
            self._services.measured(values, event, self.subscription.name)

    def failed(
        self, event: Event, error: BaseException, *, tries: int = 1, final: bool = False
    ) -> float | None:
        """Counts a failure; the delay in seconds before the next try, or None to go on."""
        account = self.account
        options = self.subscription.options
        account.busy_since = None
        answers_later = isinstance(error, UnreachableError)
        if not final and (answers_later or tries <= options.retries):
            account.retries += 1
            if answers_later:
                self._say_unreachable(event, error)
            return float(min(RETRY_DELAY_MAX_S, RETRY_DELAY_S * 2 ** (tries - 1)))
        account.failed += 1
        account.failures += 1
        account.failures_in_a_row += 1
        if account.failures_in_a_row >= options.quarantine_after:
            self.quarantine(
                f"{account.failures_in_a_row} failures in a row, the last: {one_line(error)}"
            )
        self._say_once(event, error)
        self._services.report_failure(self.subscription, event, one_line(error))
        if options.critical:
            text = "".join(traceback.format_exception(error))
            self._stop_run(f"failed on {event.name}:\n{text}", event)
        return None

    def answered(self) -> None:
        """Notes that nothing failed, and says so where a server had not answered."""
        if self._unreachable:
            self._unreachable = False
            log.warning(f"{self.subscription.name} is answered again, and goes on where it was.")

    def _say_unreachable(self, event: Event, error: BaseException) -> None:
        if not self._unreachable:
            self._unreachable = True
            log.warning(
                f"{self.subscription.name} gets no answer at step {event.step} ({error}): what "
                "comes is kept, and sent when it is answered again."
            )

    def timed_out(self, timeout: float) -> None:
        """Gives up a subscriber whose handler cannot be ended; its thread is left behind."""
        account, event = self.account, self.event
        what = f"the handler of {event.name} took" if event is not None else "a handler took"
        error = f"{what} over {timeout:g} s"
        account.stuck = True
        account.failed += 1
        account.failures += 1
        self.quarantine(error + "; its thread is left behind")
        self._services.report_failure(self.subscription, event, error)
        if self.subscription.options.critical:
            self._stop_run(f"timed out: {error}", event)

    def given_up(self, why: str) -> None:
        """Gives up a subscriber that no process can serve."""
        self.account.failures += 1
        self.quarantine(why)
        self._services.report_failure(self.subscription, self.event, why)
        if self.subscription.options.critical:
            self._stop_run(f"was given up: {why}", self.event)

    def open_failed(self, why: str) -> None:
        """Gives up a subscriber that could not be set up."""
        account = self.account
        if account.quarantined:
            return
        account.failures += 1
        self.quarantine(why)
        self._services.report_failure(self.subscription, None, why)
        if self.subscription.options.critical:
            self._stop_run(f"could not be set up: {why}", None)

    def close_failed(self, error: BaseException) -> None:
        """Counts and says that teardown raised."""
        self.account.failures += 1
        if isinstance(error, UnreachableError):
            text = f"got no answer in its close(): {error}"
        else:
            text = f"failed in its close().\n{''.join(traceback.format_exception(error)).rstrip()}"
        log.error(f"subscriber {self.subscription.name} {text}")

    def drop(self, cause: str, count: int) -> None:
        """Counts events that will not be handled."""
        self.account.drop(cause, count)

    def quarantine(self, why: str) -> None:
        """Gives the subscriber no further events; its teardown still runs."""
        if not self.account.quarantined:
            self.account.quarantined = why
            log.error(
                f"subscriber {self.subscription.name} is quarantined and gets no further events "
                f"({why}). The run goes on; the subscriber's close() will still be called."
            )

    def _stop_run(self, what: str, event: Event | None) -> None:
        name = self.subscription.name
        reason = f"the critical subscriber {name} {what}"
        step = event.step if event is not None else None
        vote = Vote("stop", voter=name, reason=reason, critical=True, step=step)
        self._services.post(vote, event)

    def _say_once(self, event: Event, error: BaseException) -> bool:
        kind = (event.name, type(error).__name__)
        if kind in self._named:
            return False
        self._named.add(kind)
        text = "".join(traceback.format_exception(error)).rstrip()
        log.error(
            f"subscriber {self.subscription.name} failed on {event.name} (step {event.step}); the "
            f"run goes on, later failures of this kind are only counted.\n{text}"
        )
        return True


def one_line(error: BaseException) -> str:
    """An exception as one line of text."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")
