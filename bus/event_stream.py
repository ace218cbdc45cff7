"""`async for event in bus.events(...)`: the bus as an async iterator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Protocol, Self

import anyio

from ..schemas import Event, Vote
from .handling import Handling, Services
from .loop_host import LoopWaker
from .mailbox import Mailbox
from .off_the_loop import read_on
from .subscription import Subscription

WOKEN_AT_ONCE = 8


class Reader(Protocol):
    """Where a stream takes its events from."""

    def bind(self) -> None:
        """Notes the event loop of who reads; to be called on it."""

    async def next_event(self) -> Event | None:
        """The next event, or None at the end."""


class EventStream:
    """The events of some kinds, on the event loop of whoever iterates; made by `bus.events`.

    A reader that falls behind harms only itself: its mailbox has a size and a policy like any
    other. The stream ends when the bus closes, or after an event of a kind in `until`.
    Leave it early with `aclose()`, or use it as an async context manager; one that is let go of
    ends by itself.
    """

    def __init__(
        self,
        reader: Reader,
        until: tuple[type[Event], ...],
        leave: Callable[[], None],
        leave_later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._reader = reader
        self._until = until
        self._leave = leave
        self._leave_later = leave_later
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._ended:
            raise StopAsyncIteration
        self._reader.bind()
        event = await self._reader.next_event()
        if event is None:
            await self.aclose()
            raise StopAsyncIteration
        if isinstance(event, self._until):
            await self.aclose()
        return event

    async def aclose(self) -> None:
        """Ends the stream and its subscription; may be called again."""
        if not self._ended:
            self._ended = True
            self._leave()

    async def __aenter__(self) -> Self:
        self._reader.bind()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # May run anywhere, inside of any lock: the pump does what there is to do.
        if not getattr(self, "_ended", True):
            self._leave_later(self._leave)


class StreamWorker:
    """Stands where a delivery has its worker; the reader takes the events itself."""

    def __init__(self, subscription: Subscription, services: Services) -> None:
        self.subscription = subscription
        self.mailbox: Mailbox = subscription.mailbox
        self.handling = Handling(subscription, services)
        self.ready = threading.Event()
        self.ready.set()
        self.finished = threading.Event()
        self.error: BaseException | None = None
        self.phase = "handlers"
        self._waker: LoopWaker | None = None
        self._filled: anyio.Event | None = None

    def bind(self) -> None:
        """Notes the event loop of the reader; to be called on it."""
        if self._waker is None:
            self._waker = LoopWaker()

    def notify(self) -> None:
        """Wakes the reader; from any thread, without waiting."""
        wake_readers([self])

    def end(self) -> None:
        """Takes no more events, and lets go of those that nobody will read."""
        self.mailbox.close()
        self.mailbox.discard()
        self.finished.set()

    @property
    def waker(self) -> LoopWaker | None:
        """Of the reader's event loop; None while nobody has read."""
        return self._waker

    def wake(self) -> None:
        """Lets the reader look at its mailbox; to be called on its loop."""
        if self._filled is not None:
            self._filled.set()

    async def next_event(self) -> Event | None:
        """The next event, or None once the bus has closed and all were read."""
        handling, mailbox = self.handling, self.mailbox
        while True:
            event = mailbox.take()
            if event is not None:
                try:
                    if handling.begin(event) is not None:
                        handling.succeeded(event, None)
                        return event
                finally:
                    mailbox.settle()
                    handling.done(event)
                continue
            if await read_on(mailbox):
                continue
            if mailbox.closed and not mailbox.behind:
                self.finished.set()
                return None
            filled = self._filled = anyio.Event()
            # What came before this event was made woke nobody.
            if not mailbox.has_mail and (mailbox.behind or not mailbox.closed):
                await filled.wait()


def wake_readers(workers: Iterable[StreamWorker]) -> None:
    """Wakes the readers of some streams, each event loop once for all of its readers; from any
    thread, without waiting. Those whose loop has ended are let go of."""
    loops: dict[object, tuple[LoopWaker, list[StreamWorker]]] = {}
    for worker in workers:
        if worker.waker is not None:
            loops.setdefault(worker.waker.loop, (worker.waker, []))[1].append(worker)
    for waker, readers in loops.values():
        if not waker.call(_WakeSome(waker, readers)):
            for worker in readers:
                worker.end()


class _WakeSome:
    """A call that wakes some readers, a few in each turn of their loop.

    Between its turns a loop lets go of the interpreter lock; a hundred readers woken at once would
    keep it from the training thread for milliseconds.
    """

    def __init__(self, waker: LoopWaker, readers: list[StreamWorker]) -> None:
        self._waker = waker
        self._readers = readers

    def __call__(self) -> None:
        for reader in self._readers[:WOKEN_AT_ONCE]:
            reader.wake()
        left = self._readers[WOKEN_AT_ONCE:]
        if left:
            self._waker.call(_WakeSome(self._waker, left))


def no_votes(_event: Event) -> Vote | None:
    """Stands where a subscription has its handler; a reader casts votes with `bus.vote`."""
    return None
