"""A subscriber on the bus: what it takes, where its handlers run, its mailbox and its account."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, NamedTuple

from ..schemas import (
    Event,
    Resumed,
    Stalled,
    SubscriberBehind,
    SubscriberFailed,
    TrainingEvent,
)
from ..schemas.errors import ArgumentError, nearest
from .checks import check_count, check_seconds
from .diagnostics import get_logger
from .filters import Filter, FilterCounts
from .handler import Handler, check_handler, is_async, name_of
from .lease import Lease
from .ledger import Account, LedgerRow
from .listening import handlers_of, handlers_of_handed_on
from .mailbox import Mailbox, Overflow, check_overflow, spread
from .memory_held import SAMPLE, mean_size
from .ranks import FOR_RANKS
from .sidecar.recipe import Recipe, recipe_of_function, recipe_of_subscriber
from .spillway import Spillway
from .subscriber import Subscriber

log = get_logger()

Delivery = Literal["loop", "thread", "process", "gate"]
DELIVERIES: tuple[Delivery, ...] = ("loop", "thread", "process", "gate")

NOT_BY_THE_ENGINE = (Resumed, Stalled, SubscriberBehind, SubscriberFailed)
"""Events of stepbus that other threads emit."""


class Route(NamedTuple):
    """One handler of a subscription, and the events it takes."""

    event_class: type[Event]
    handler: Handler
    filter: Filter
    handed_on: bool = False
    """True where the events do not come by themselves, but from the subscriber's gate side."""


class Options(NamedTuple):
    """What can be set for a subscription besides its filters."""

    delivery: str | None = None
    overflow: Overflow = "spill"
    mailbox_size: int | None = None
    timeout: float | None = None
    retries: int = 0
    quarantine_after: int = 5
    critical: bool = False
    required: bool = False
    wait_for_values: bool = False
    name: str | None = None
    own: bool = False
    ranks: str = "zero"

    def checked(self) -> Options:
        """The options, once they are known to be sound; raises ArgumentError."""
        if self.delivery is not None and self.delivery not in DELIVERIES:
            raise ArgumentError(
                f"delivery={self.delivery!r} is no delivery: "
                f"{nearest(str(self.delivery), DELIVERIES)}"
            )
        if self.own and self.delivery != "process":
            raise ArgumentError(
                f"own=True is for delivery='process', and this is {self.delivery!r}: leave it out."
            )
        if self.ranks not in FOR_RANKS:
            raise ArgumentError(
                f"ranks={self.ranks!r} names no ranks: 'zero' (the first process of several alone) "
                "or 'all' (each of them, with the events of its own process)."
            )
        check_overflow(self.overflow, self.mailbox_size)
        check_seconds("timeout", self.timeout)
        check_count("retries", self.retries, 0)
        check_count("quarantine_after", self.quarantine_after, 1)
        return self


class Subscription:
    """One subscriber, with all of its routes; a function behind `subscribe` has one per event."""

    def __init__(
        self,
        target: object,
        routes: Iterable[Route],
        options: Options,
        *,
        open_: Callable[[], Any] | None = None,
        close: Callable[[], Any] | None = None,
        caught_up: Callable[[], float | None] | None = None,
        hurry: Callable[[], None] | None = None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        self.target = target
        self.routes = tuple(routes)
        self.options = options.checked()
        self.name = options.name or name_of(target)
        self.asynchronous = self._all_async()
        self.delivery: Delivery = self._choose_delivery()
        self.recipe: Recipe | None = None
        """How another process makes it again, where it is to be served there."""
        if self.delivery == "gate":
            self._check_gate()
        elif self.delivery == "process":
            self.recipe = self._recipe(arguments)
        self.open = open_
        self.close = close
        self.caught_up = caught_up
        self.hurry = hurry
        """To be called when the time at the end is nearly over; None where nobody heeds it."""
        self.account = Account(self.name, self.delivery)
        self.mailbox = self.new_mailbox()
        self._accepted_before = 0
        self._spilled_before = 0
        self._bytes_each = 0.0
        self.since = 0.0
        self.sent: deque[Event] = deque()
        """Events that are with another process and not dealt with yet."""
        self.changes_nothing = bool(getattr(target, "changes_nothing", False))
        self._counts: dict[tuple[str, int], FilterCounts] = {}

    def _all_async(self) -> bool:
        kinds = {is_async(route.handler) for route in self.routes}
        if len(kinds) > 1:
            raise ArgumentError(
                f"Some handlers of {self.name} are async and some are not: make all of them one."
            )
        return bool(kinds) and kinds.pop()

    def _choose_delivery(self) -> Delivery:
        chosen = self.options.delivery or ("loop" if self.asynchronous else "thread")
        if self.asynchronous and chosen != "loop":
            raise ArgumentError(
                f"{self.name} is async and delivery={chosen!r} takes functions that are not: "
                "write it without async, or leave delivery out (the event loop)."
            )
        if not self.asynchronous and chosen == "loop":
            raise ArgumentError(
                f"{self.name} is not async and delivery='loop' takes async functions: write "
                "async def, or leave delivery out (a thread of its own)."
            )
        return chosen  # type: ignore[return-value]

    def _check_gate(self) -> None:
        for route in self.routes:
            kind = route.event_class
            if not issubclass(kind, NOT_BY_THE_ENGINE) and (
                issubclass(kind, TrainingEvent) or issubclass(TrainingEvent, kind)
            ):
                continue
            raise ArgumentError(
                f"{self.name}: {kind.__name__} does not come from the training thread, so "
                "delivery='gate' would never be called for it: use a thread."
            )
        if self.options.retries:
            raise ArgumentError(
                f"{self.name}: retries= has no effect with delivery='gate', where the step would "
                "wait for them: leave it out."
            )
        if self.options.timeout is not None:
            raise ArgumentError(
                f"{self.name}: timeout= has no effect with delivery='gate', since nothing can end "
                "a call on the training thread: leave it out."
            )

    def _recipe(self, arguments: dict[str, Any] | None) -> Recipe:
        if isinstance(self.target, Subscriber):
            return recipe_of_subscriber(self.target, arguments)
        kinds = [route.event_class for route in self.routes]
        return recipe_of_function(self.target, kinds, self.routes[0].filter)

    def new_mailbox(self, spillway: Spillway | None = None) -> Mailbox:
        """An empty mailbox with the subscription's policy; what it drops goes on the account."""
        options = self.options
        return Mailbox(
            options.overflow,
            options.mailbox_size,
            spillway=spillway,
            on_drop=self._note_drop,
            let_go=self.let_go,
        )

    def let_go(self, event: Event) -> None:
        """Lets go of what the event kept for this subscriber: the lease of a checkpoint."""
        if event.name == "save":
            lease: Lease | None = getattr(event, "lease", None)
            if lease is not None:
                lease.release(self.name)

    def _note_drop(self, cause: str, count: int) -> None:
        first = cause not in self.account.dropped
        self.account.drop(cause, count)
        if first and cause == "disk":
            log.error(
                f"subscriber {self.name} fell behind, and is losing events that the log on disk "
                "could not take or give back"
            )

    def route(self, kind: type[Event]) -> Route | None:
        """The route for a class of events: the closest class that it named, or None.

        None as well where these events come only when they are handed on.
        """
        found = self.handler_route(kind)
        return found if found is not None and not found.handed_on else None

    def handler_route(self, kind: type[Event]) -> Route | None:
        """As `route`, handed on or not: where an event goes once it is in the mailbox."""
        found: Route | None = None
        for route in self.routes:
            if issubclass(kind, route.event_class) and (
                found is None or issubclass(route.event_class, found.event_class)
            ):
                found = route
        return found

    def takes(
        self, route: Route, kind: str, step: int, epoch: float, run: tuple[str, int], now: float
    ) -> bool:
        """Whether an event passes the route's filter; to be asked once for each event."""
        chosen = route.filter
        if chosen.always:
            return True
        if chosen.runs is not None and run[0] not in chosen.runs:
            return False
        if chosen.uncounted:
            return True
        counts = self._counts.get(run)
        if counts is None:
            counts = self._counts[run] = FilterCounts()
        return counts.takes(chosen, kind, step, epoch, now)

    def rests_until(self, route: Route, kind: str, run: tuple[str, int]) -> float:
        """Until when (monotonic, s) it certainly takes no event of a kind that it takes at most one
        of in so many seconds; minus infinity for all others."""
        chosen = route.filter
        if not chosen.admits(run[0]):
            return math.inf
        counts = self._counts.get(run)
        if counts is None or chosen.interval_s is None or not chosen.only_by_time:
            return -math.inf
        return counts.last_s(kind) + chosen.interval_s

    def hears(self, kind: type[Event], run_id: str) -> bool:
        """Whether it takes events of a class of a run."""
        route = self.route(kind)
        return route is not None and route.filter.admits(run_id)

    def admits(self, run_id: str) -> bool:
        """Whether it takes any events of a run."""
        return any(route.filter.admits(run_id) for route in self.routes)

    def forget_run(self, run: tuple[str, int]) -> None:
        """Lets go of what was counted for a run that has ended."""
        self._counts.pop(run, None)

    def ledger_row(self) -> LedgerRow:
        """The account as it stands."""
        if self.delivery == "gate":
            return self.account.row()
        mailbox = self.mailbox
        self.measure()
        return self.account.row(
            len(mailbox) + len(self.sent),
            mailbox.peak,
            accepted=self._accepted_before + mailbox.accepted,
            overflow=mailbox.overflow,
            bytes_each=self._bytes_each,
            in_memory=mailbox.num_in_memory + len(self.sent),
            most_in_memory=min(mailbox.peak, mailbox.size),
            spilled=self._spilled_before + mailbox.spilled,
            bytes_on_disk=mailbox.bytes_on_disk,
        )

    def measure(self) -> None:
        """Looks at some of the events that wait for how much memory one takes."""
        sample, _ = self.sample(SAMPLE)
        if sample:
            self._bytes_each = mean_size(sample)

    def sample(self, most: int) -> tuple[list[Event], int]:
        """Some of the events that wait in memory, and how many further on each next one was."""
        events = self.mailbox.sample(most) or spread(self.sent, most)
        return events, max(1, (self.mailbox.num_in_memory or len(self.sent)) // most)

    def renew_mailbox(self, spillway: Spillway) -> None:
        """Takes an empty mailbox, for a worker that starts; what came before stays on record."""
        self._accepted_before += self.mailbox.accepted
        self._spilled_before += self.mailbox.spilled
        self.mailbox = self.new_mailbox(spillway)

    def __repr__(self) -> str:
        return f"<Subscription {self.name} delivery={self.delivery}>"


def subscription_of_function(
    handler: object, kinds: Iterable[type[Event]], chosen: Filter, options: Options
) -> Subscription:
    """A subscription of a function to some classes of events."""
    function = check_handler(handler)
    return Subscription(handler, [Route(kind, function, chosen) for kind in kinds], options)


def subscription_of_subscriber(
    subscriber: Subscriber,
    overrides: dict[str, Any],
    arguments: dict[str, Any] | None = None,
    run_id: str | Collection[str] | None = None,
) -> Subscription:
    """A subscription of all methods of a subscriber, with its class attributes as options.

    `arguments` are those that it was made with, where that is known; with `run_id` it gets events
    of those runs alone.
    """
    defaults: dict[str, Any] = {
        "delivery": subscriber.delivery,
        "overflow": subscriber.overflow,
        "mailbox_size": subscriber.mailbox_size,
        "timeout": subscriber.timeout,
        "retries": subscriber.retries,
        "quarantine_after": subscriber.quarantine_after,
        "critical": subscriber.critical,
        "ranks": subscriber.ranks,
        "name": subscriber.subscriber_name,
    }
    routes = [
        Route(kind, check_handler(method), chosen)
        for kind, (method, chosen) in handlers_of(subscriber).items()
    ]
    routes += [
        Route(kind, check_handler(method), chosen, handed_on=True)
        for kind, (method, chosen) in handlers_of_handed_on(subscriber).items()
    ]
    if run_id is not None:
        routes = [route._replace(filter=route.filter.of_runs(run_id)) for route in routes]
    return Subscription(
        subscriber,
        routes,
        Options(**{**defaults, **overrides}),
        open_=subscriber.open,
        close=subscriber.close,
        caught_up=_own_caught_up(subscriber),
        hurry=subscriber.hurry if type(subscriber).hurry is not Subscriber.hurry else None,
        arguments=arguments,
    )


def _own_caught_up(subscriber: Subscriber) -> Callable[[], float | None] | None:
    """Its `caught_up`, unless that is the one that does nothing."""
    own = type(subscriber).caught_up is not Subscriber.caught_up
    return subscriber.caught_up if own else None
