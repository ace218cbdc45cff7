"""Who listens to a bus, and the runs that are listened to."""

from __future__ import annotations

import threading
from types import MethodType

from ..schemas import Event
from .ledger import Ledger
from .run_link import Numbering, RunLink
from .subscription import Subscription

MOST_ENDED = 100


class Roster:
    """The subscriptions and the open runs of one bus, each list replaced whole when it changes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.subscriptions: list[Subscription] = []
        self.elsewhere: list[Subscription] = []
        """Those that run on another rank; they are known only to be unsubscribed."""
        self.links: list[RunLink] = []
        self.ended: dict[str, tuple[int, Numbering]] = {}
        """Attempt and numbering of the runs that ended last: late verdicts go on with them."""

    def add(self, subscription: Subscription) -> None:
        """Takes a subscription; with the lock held."""
        self.subscriptions = [*self.subscriptions, subscription]

    def remove(self, target: object) -> list[Subscription]:
        """Drops the subscriptions of a target and gives them back; with the lock held."""
        gone = [s for s in self.subscriptions if s is target or _same(s.target, target)]
        self.subscriptions = [s for s in self.subscriptions if s not in gone]
        return gone

    def forget_elsewhere(self, target: object) -> bool:
        """Drops the subscriptions of a target that run on another rank; with the lock held."""
        left = [s for s in self.elsewhere if not (s is target or _same(s.target, target))]
        gone = len(left) < len(self.elsewhere)
        self.elsewhere = left
        return gone

    def remember(self, link: RunLink) -> None:
        """Keeps what a late verdict of a run that ends will need."""
        self.ended.pop(link.run_id, None)
        self.ended[link.run_id] = (link.key[1], link.numbering)
        while len(self.ended) > MOST_ENDED:
            del self.ended[next(iter(self.ended))]

    def link_of(self, run_id: str) -> RunLink | None:
        """The open run with that name."""
        return next((link for link in self.links if link.run_id == run_id), None)

    def ledger(self, link: RunLink | None = None) -> Ledger:
        """What each subscriber cost so far, and one run, open or not, or all that are open."""
        links = [link] if link is not None else self.links
        rows = [subscription.ledger_row() for subscription in self.subscriptions]
        rows += [row for each in links for row in each.gate.ledger()]
        return Ledger(rows=tuple(rows), runs=tuple(each.cost() for each in links))

    def refresh(self, link: RunLink | None = None) -> None:
        """Tells the emitters of one run, or of all, who listens; with the lock held."""
        concurrent = [s for s in self.subscriptions if s.delivery != "gate"]
        gates = [s for s in self.subscriptions if s.delivery == "gate"]

        for each in [link] if link is not None else self.links:
            run_id = each.run_id

            def wants(kind: type[Event], run_id: str = run_id) -> bool:
                return any(subscription.hears(kind, run_id) for subscription in concurrent)

            each.listen(wants, [gate for gate in gates if gate.admits(run_id)])


def _same(one: object, other: object) -> bool:
    # Methods are made anew at each look, so they are compared; all else is only itself.
    return one is other or (isinstance(one, MethodType) and one == other)
