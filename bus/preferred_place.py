"""Where a subscriber works that had best be in another process, if nobody says otherwise."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..schemas.errors import ArgumentError
from .diagnostics import get_logger
from .subscriber import Subscriber
from .subscription import Subscription, subscription_of_subscriber

log = get_logger()


def subscription_in_its_place(
    subscriber: Subscriber,
    options: dict[str, Any],
    arguments: dict[str, Any] | None,
    run_id: str | Collection[str] | None,
) -> Subscription:
    """A subscription in another process where the subscriber `prefers_process` and can be handed
    over; one that cannot works in a thread, with a line that says why.

    Args:
        subscriber: whose methods are subscribed.
        options: of the subscription.
        arguments: what it was made with, where that is known.
        run_id: the runs whose events it gets; all where there is none.

    Raises:
        ArgumentError: the options do not fit, wherever it works.
    """
    placed = options.get("delivery") or subscriber.delivery
    if placed or not subscriber.prefers_process:
        return subscription_of_subscriber(subscriber, options, arguments, run_id)
    why: object = subscriber.why_here()
    if not why:
        try:
            elsewhere = options | {"delivery": "process"}
            return subscription_of_subscriber(subscriber, elsewhere, arguments, run_id)
        except ArgumentError as error:
            why = error
    subscription = subscription_of_subscriber(subscriber, options, arguments, run_id)
    log.warning(f"{type(subscriber).__name__} works in a thread of the training: {why}")
    return subscription
