"""The pump's table of who takes what, and the events sorted for each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..schemas import Event
from .spillway import Spillway
from .subscription import Route, Subscription
from .worker import Worker

Target = tuple[Subscription, Route, Worker]


class Lane(NamedTuple):
    """The way of one kind of event to one subscriber."""

    since: float
    always: bool
    subscription: Subscription
    route: Route
    append: Callable[[Event], None]
    worker: Worker


class Outgoing:
    """Lanes and outboxes; used by the pump's thread alone, but for `retarget`."""

    def __init__(self, targets: Callable[[type[Event]], list[Target]], spillway: Spillway) -> None:
        self._targets = targets
        self._spillway = spillway
        self._order: list[Event] = []
        self.crowded = False
        """Whether a mailbox that got mail last will overflow soon, if its worker gets no time."""
        self.note = self._order.append
        """To be called with each event, in the order of the pump."""
        self._lanes: dict[type[Event], list[Lane]] = {}
        self._outboxes: dict[Worker, list[Event]] = {}

    def retarget(self) -> None:
        """Forgets who listens to what; from any thread."""
        self._lanes = {}

    def lanes_of(self, event_class: type[Event]) -> list[Lane]:
        """The ways of a class of events, in the order of subscription."""
        # Taken once: what is found now must not enter the table of a later `retarget`.
        table = self._lanes
        lanes = table.get(event_class)
        if lanes is None:
            lanes = table[event_class] = [
                Lane(
                    subscription.since,
                    route.filter.always,
                    subscription,
                    route,
                    self.append_for(worker),
                    worker,
                )
                for subscription, route, worker in self._targets(event_class)
            ]
        return lanes

    def append_for(self, worker: Worker) -> Callable[[Event], None]:
        """What puts an event behind those that were sorted for a worker already."""
        return self._outboxes.setdefault(worker, []).append

    def post(self) -> list[Worker]:
        """Puts what was sorted into the mailboxes; the workers that got mail."""
        posted, self.crowded = [], False
        for worker, events in self._outboxes.items():
            if events:
                if worker.mailbox.put(events):
                    posted.append(worker)
                    self.crowded |= worker.mailbox.is_crowded
                else:
                    _undeliverable(worker, events)
                events.clear()
        if self._spillway.due:
            self._spillway.write(self._order)
        self._order.clear()
        return posted

    def forget_finished(self) -> None:
        """Lets go of workers that have ended."""
        gone = [worker for worker in self._outboxes if worker.finished.is_set()]
        if gone:
            # Their lanes too, which hold on to the outboxes.
            self._lanes = {}
            for worker in gone:
                del self._outboxes[worker]


def _undeliverable(worker: Worker, events: list[Event]) -> None:
    account = worker.handling.account
    cause = "stuck" if account.stuck else "quarantine" if account.quarantined else ""
    if cause:
        account.drop(cause, len(events))
        account.turned_away += len(events)
    for event in events:
        worker.handling.done(event)
