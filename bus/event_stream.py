"""`async for event in bus.events(...)`: the bus as an async iterator."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from ..schemas import Event, Vote
from .clock import Clock
from .handling import Handling
from .loop_host import LoopWaker
from .mailbox import Mailbox
from .subscription import Subscription

if TYPE_CHECKING:
    from .event_bus import EventBus


class EventStream:
    """The events of some kinds, on the event loop of whoever iterates; made by `bus.events`.

    A reader that falls behind harms only itself: its mailbox has a size and a policy like any
    other. The stream ends when the bus closes, or after the kind of event named by `until`.
    Leave it early with `aclose()`, or use it as an async context manager.
    """

    def __init__(self, bus: EventBus, subscription: Subscription, until: type[Event] | None) -> None:
        self.subscription = subscription
        self._bus = bus
        self._until = until
        self._worker: StreamWorker | None = None
        self._ended = False
        self._waiting: list[Event] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._ended:
            raise StopAsyncIteration
        worker = self._bind()
        event = await worker.next_event()
        if event is None:
            await self.aclose()
            raise StopAsyncIteration
        if self._until is not None and isinstance(event, self._until):
            await self.aclose()
        return event

    async def aclose(self) -> None:
        """Ends the stream and its subscription."""
        self._ended = True
        self._bus.unsubscribe(self.subscription.target)

    async def __aenter__(self) -> Self:
        self._bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def attach(self, worker: StreamWorker) -> None:
        """Gives the stream the worker that the bus made for it."""
        self._worker = worker

    def _bind(self) -> StreamWorker:
        if self._worker is None:
            raise StopAsyncIteration
        self._worker.bind()
        return self._worker


class StreamWorker:
    """Stands where a delivery has its worker; the reader takes the events itself."""

    def __init__(self, subscription: Subscription, services: Any) -> None:
        self.subscription = subscription
        self.mailbox: Mailbox = subscription.mailbox
        self.handling = Handling(subscription, services)
        self.ready = threading.Event()
        self.ready.set()
        self.finished = threading.Event()
        self.error: Exception | None = None
        self._clock: Clock = services.clock
        self._waker: LoopWaker | None = None
        self._filled: anyio.Event | None = None

    def bind(self) -> None:
        """Notes the event loop of the reader; to be called on it."""
        if self._waker is None:
            self._waker = LoopWaker()

    def notify(self) -> None:
        """Wakes the reader; from any thread, without waiting."""
        if self._waker is not None:
            self._waker.call(self._wake)

    def _wake(self) -> None:
        if self._filled is not None:
            self._filled.set()

    async def next_event(self) -> Event | None:
        """The next event, or None once the bus has closed and all were read."""
        account = self.handling.account
        while True:
            self._filled = anyio.Event()
            events = self.mailbox.take()
            if events:
                event = events[0]
                self.mailbox.settle()
                self.handling.done(event)
                route = self.handling.route(event)
                if route is None or (route.filter.when and not route.filter.when(event)):
                    continue
                account.handled += 1
                account.note_lag(max(0.0, self._clock.monotonic() - event.monotonic))
                return event
            if self.mailbox.closed:
                self.finished.set()
                return None
            await self._filled.wait()


def no_votes(_event: Event) -> Vote | None:
    """Stands where a subscription has its handler; a stream's reader casts votes with `bus.vote`."""
    return None
