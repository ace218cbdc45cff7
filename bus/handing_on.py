"""Calls of a built-in in Hugging Face's shape: handed on to the buses that it is on, or handled."""

from __future__ import annotations

import atexit
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..schemas import Event
from . import gate_call
from .diagnostics import get_logger
from .emitter import Captured
from .filters import FilterCounts
from .published import HandedOn
from .run_link import RunLink
from .subscriber import Subscriber, filter_of
from .subscription import Subscription

if TYPE_CHECKING:
    from .event_bus import EventBus

log = get_logger()


class Place(NamedTuple):
    """One bus that a callback is on."""

    bus: EventBus
    subscription: Subscription


class Sides:
    """The concurrent sides of one callback, and itself where it has none."""

    def __init__(self, callback: Subscriber) -> None:
        self._callback = callback
        self._places: tuple[Place, ...] = ()
        self._direct: DirectCalls | None = None

    def attach(self, bus: EventBus, subscription: Subscription) -> None:
        """Notes that the callback is on a bus, which sets it up anew."""
        self._end_direct_calls()
        self._places = (*self._places, Place(bus, subscription))

    def detach(self, subscription: Subscription) -> None:
        """Notes that it no longer is."""
        self._end_direct_calls()
        self._places = tuple(p for p in self._places if p.subscription is not subscription)

    def hand_on_original(self, kind: str, values: dict[str, Any]) -> bool:
        """Hands on the event that the gate is being called for, with these logs or metrics.

        False where that is of another kind, or of a bus that the callback is not on.
        """
        captured = gate_call.current()
        if captured is None or captured.emitter.kind != kind:
            return False
        link = captured.emitter.link
        again = captured._replace(values={**captured.values, **values})
        return self._send(again, link, [p for p in self._concurrent() if p.bus is link.bus])

    def hand_on(self, event: Event, state: object) -> bool:
        """Hands on an event that was made of a call; False where the callback is on no bus."""
        return self._send(event, self._link(state), self._concurrent())

    def header(self, state: object) -> dict[str, Any]:
        """Run and time of an event that is made of a call with this state."""
        link = self._link(state)
        if link is None:
            return {}
        clock = link.bus.clock
        return {**link.header, "time": clock.time(), "monotonic": clock.monotonic()}

    def handle(self, method: Callable[..., Any] | None, event: Event) -> None:
        """Handles an event in this thread."""
        is_open = any(not place.bus.closed for place in self._places)
        self._direct = self._direct or DirectCalls(self._callback, is_open=is_open)
        self._direct.handle(method, event)

    def _end_direct_calls(self) -> None:
        direct, self._direct = self._direct, None
        if direct is not None:
            direct.end()

    def _concurrent(self) -> list[Place]:
        return [p for p in self._places if p.subscription.delivery != "gate" and not p.bus.closed]

    def _link(self, state: object) -> RunLink | None:
        links = (place.bus.run_of(state) for place in self._places)
        return next((link for link in links if link is not None), None)

    def _send(self, content: Captured | Event, link: RunLink | None, places: list[Place]) -> bool:
        for place in places:
            place.bus.append(HandedOn(place.subscription, content, link))
        return bool(places)


class DirectCalls:
    """Handles events of one subscriber in the calling thread; set-up comes before the first.

    Teardown comes when it is subscribed to a bus, or when the program ends.
    """

    def __init__(self, subscriber: Subscriber, *, is_open: bool) -> None:
        self._subscriber = subscriber
        self._counts = FilterCounts()
        self._must_open = not is_open
        self._must_close = False
        self._refused = False

    def handle(self, method: Callable[..., Any] | None, event: Event) -> None:
        """Calls the method with the event, or `on_event` where there is no method.

        What the method raises goes to the caller; votes that it returns do nothing.
        """
        method = method or getattr(type(self._subscriber), "on_event", None)
        if method is None:
            return
        if inspect.iscoroutinefunction(method):
            self._refuse()
            return
        chosen = filter_of(method)
        if not chosen.always and not self._counts.takes(
            chosen, event.name, event.step, event.epoch, event.monotonic
        ):
            return
        if chosen.when is not None and not chosen.when(event):
            return
        self._open()
        method(self._subscriber, event)

    def end(self) -> None:
        """Tears down what was set up."""
        if self._must_close:
            self._must_close = False
            atexit.unregister(self.end)
            self._subscriber.close()

    def _open(self) -> None:
        if self._must_open:
            self._must_open = False
            self._subscriber.open()
            self._must_close = True
            atexit.register(self.end)

    def _refuse(self) -> None:
        if not self._refused:
            self._refused = True
            log.warning(
                f"{type(self._subscriber).__name__} is on no bus, and its async methods cannot be "
                "called without one: the call does nothing. Give it to the run, callbacks=[...]."
            )
