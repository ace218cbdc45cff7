"""What a subscriber that costs too much can be given, in the user's words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ..schemas import Event
from .backlog import Pace
from .filters import BY_STEP
from .subscriber import Subscriber
from .subscription import DELIVERIES, Subscription

HEADROOM = 1.25
"""What is recommended leaves it this much time to spare."""
MOSTLY = 0.8
"""A kind of which so many waiting events are is the cause."""
COMPUTES_FROM = 0.5
"""A handler that spends so much of its time on the processor computes, rather than waits."""
ROUND = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


class Waiting(NamedTuple):
    """Some of the events that wait, spread evenly."""

    sample: Sequence[Event]
    apart: int
    """How many events further on the next of them was."""

    def most(self) -> tuple[str, float]:
        """The kind that most of them are of, and its share; of equals, the first."""
        if not self.sample:
            return "", 0.0
        kinds = Counter(event.name for event in self.sample)
        kind, count = kinds.most_common(1)[0]
        return kind, count / len(self.sample)

    def steps_per_event(self, share: float) -> float:
        """Optimizer steps from one event of a kind with that share to the next."""
        between = (len(self.sample) - 1) * self.apart * share
        return (self.sample[-1].step - self.sample[0].step) / between if between else 0.0


def fewer_events(subscription: Subscription, waiting: Waiting, pace: Pace) -> str:
    """The interval at which the subscriber would keep up, as the user sets it."""
    if not pace.handled:
        return "look at what it waits for; timeout= gives up one that hangs"
    factor = pace.arriving / pace.handled * HEADROOM
    kind, share = waiting.most()
    if share < MOSTLY:
        return f"subscribe to fewer kinds of events: it can handle one in {math.ceil(factor)}"
    every = round_up(max(2, factor))
    steps = waiting.steps_per_event(share)
    by_steps = round_up(max(2, steps * factor)) if steps > 0 else 0
    if kind == "log" and by_steps:
        keeps_up = f"logging_steps={by_steps} would do"
        return keeps_up if _is_class(subscription) else f"{keeps_up}, or every={every}"
    if kind in BY_STEP and by_steps:
        every = by_steps
    where = f"@on(every={every}) on its on_{kind}" if _is_class(subscription) else f"every={every}"
    return f"{where} would do"


def computes(subscription: Subscription) -> bool:
    """Whether its handler keeps the processor busy, so that Python's lock is the cause."""
    account = subscription.account
    return account.delivery == "thread" and account.cpu_s > COMPUTES_FROM * account.handler_s > 0


def elsewhere() -> str:
    """What takes Python time off the training's own process."""
    if "process" in DELIVERIES:
        return "delivery='process' gives it an interpreter of its own"
    return "hand its work to another process"


def round_up(number: float) -> int:
    """The next number that somebody would write."""
    scale = 10.0 ** math.floor(math.log10(number))
    lead = next(lead for lead in ROUND if lead * scale >= number * (1 - 1e-9))
    return math.ceil(lead * scale)


def _is_class(subscription: Subscription) -> bool:
    return isinstance(subscription.target, Subscriber)
