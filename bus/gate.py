"""Delivery `gate`: handlers on the training thread, answered before the votes are merged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..schemas import Event, TrainerControl
from ..schemas.errors import DeliveryError
from .callback_chain import CallbackChain, wait_for
from .emitter import build
from .gate_call import GateCall
from .handling import Handling, Services, one_line
from .subscriber import TrainerCallback
from .subscription import Subscription

if TYPE_CHECKING:
    from .run_link import RunLink


class GateChain(CallbackChain):
    """What runs on the training thread at each event of one run, in order.

    First the callbacks of Hugging Face's shape, which share one control, then the gate
    subscriptions of the bus, each of which gets the event and returns votes.
    """

    def __init__(
        self,
        services: Services,
        control: TrainerControl,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(services, control)
        self._on_change = on_change
        self.subscriptions: list[tuple[Subscription, Handling]] = []
        self._opened: dict[Subscription, Exception | None] = {}

    def add(self, callback: TrainerCallback) -> None:
        """Puts a callback at the end of the chain."""
        super().add(callback)
        self._on_change()

    def remove(self, callback: TrainerCallback) -> None:
        """Takes a callback out of the chain."""
        super().remove(callback)
        self._on_change()

    def set_subscriptions(self, subscriptions: list[Subscription]) -> None:
        """Takes the gate subscriptions of the bus, in their order."""
        known = dict(self.subscriptions)
        self.subscriptions = [
            (subscription, known.get(subscription) or Handling(subscription, self._services))
            for subscription in subscriptions
        ]

    def open(self) -> None:
        """Sets up the gate subscriptions; on the training thread, before the first event.

        Raises:
            DeliveryError: a required one failed.
        """
        for subscription, handling in self.subscriptions:
            self._open(subscription, handling)
            error = self._opened[subscription]
            if error is not None and subscription.options.required:
                raise DeliveryError(
                    f"Subscriber {subscription.name} was asked for and could not be set up: open() "
                    f"failed: {error!r}. Mend it, or leave it out."
                ) from error

    def close(self) -> None:
        """Tears down what was set up; on the training thread, after the last event."""
        opened, self._opened = self._opened, {}
        for subscription in opened:
            if subscription.close is not None:
                try:
                    subscription.close()
                except Exception as error:
                    Handling(subscription, self._services).close_failed(error)

    def _open(self, subscription: Subscription, handling: Handling) -> None:
        if subscription in self._opened:
            return
        self._opened[subscription] = None
        if subscription.open is not None:
            try:
                subscription.open()
            except Exception as error:
                self._opened[subscription] = error
                handling.open_failed(f"open() failed: {one_line(error)}")

    def hears(self, event_class: type[Event], kind: str) -> bool:
        """Whether anybody in the chain takes events of a kind."""
        return self.listens(kind) or any(
            subscription.route(event_class) for subscription, _ in self.subscriptions
        )

    def call(self, call: GateCall, link: RunLink) -> None:
        """Runs all that listen to the event."""
        super().call(call, link)
        if self.subscriptions:
            self._call_subscriptions(call, link)

    def _call_subscriptions(self, call: GateCall, link: RunLink) -> None:
        event: Event | None = None
        emitter, captured = call.emitter, call.captured
        for subscription, handling in self.subscriptions:
            route = subscription.route(emitter.event_class)
            if route is None or not subscription.takes(
                route, emitter.kind, captured.step, captured.epoch, link.key, captured.monotonic
            ):
                continue
            self._open(subscription, handling)
            if captured.deferred and subscription.options.wait_for_values:
                chosen = wait_for(
                    subscription.account,
                    call,
                    lambda: build(captured, -1, link.wall_offset(), wait=True),
                )
            else:
                chosen = event = event or build(captured, -1, link.wall_offset())
            self._call_subscription(subscription, handling, chosen)

    def _call_subscription(
        self, subscription: Subscription, handling: Handling, event: Event
    ) -> None:
        handler = handling.begin(event)
        if handler is None:
            return
        wall, cpu = time.perf_counter(), time.thread_time()
        result: object = None
        try:
            with contextlib.nullcontext() if subscription.changes_nothing else self.guard():
                result = handler(event)
        except Exception as error:
            handling.failed(event, error, final=True)
        else:
            handling.succeeded(event, result)
        subscription.account.handler_s += time.perf_counter() - wall
        subscription.account.cpu_s += time.thread_time() - cpu
