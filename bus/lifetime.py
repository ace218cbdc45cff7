"""The life of a bus: started, flushed, stopped, closed; by itself or in a with block."""

from __future__ import annotations

import importlib.util
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread

from ..schemas import Event
from ..schemas.errors import ArgumentError, BusClosedError, StepbusError
from . import fork
from .checks import check_seconds
from .clock import Clock
from .control_channel import ControlChannel
from .falling_behind import FallingBehind
from .feedback import Feedback
from .log import EventLog
from .outgoing import Target
from .pump import Pump
from .replay import Replay
from .roster import Roster
from .run_link import RunLink
from .spillway import Spillway
from .subscription import Subscription
from .worker import Worker
from .workforce import Workforce

AFTER_ERROR_S = 10.0
"""How long a bus whose with block is left by an exception waits for its subscribers at most, s."""
MEASURE_EVERY_S = 1.0
"""Between two looks at how much memory waiting events take."""
ROUNDS = 3
"""How often a closing bus looks whether handlers have published more while it drained."""


class BusLifetime:
    """The part of the bus that runs its threads: the pump and the workers."""

    def __init__(
        self,
        channel: ControlChannel,
        backend: str,
        drain_timeout: float,
        setup_timeout: float,
    ) -> None:
        check_seconds("drain_timeout", drain_timeout)
        check_seconds("setup_timeout", setup_timeout)
        _check_backend(backend)
        self.clock: Clock = channel.clock
        self.channel = channel
        self.drain_timeout = drain_timeout
        self.setup_timeout = setup_timeout
        self._queue: deque[Any] = deque()
        self.append: Callable[[Any], None] = self._queue.append
        self._roster = Roster()
        self.feedback = Feedback(self._roster, channel, self.append)
        self._pump: Pump | None = None
        self._holders: int | None = None
        """Runs that the bus was started for; None where somebody else started it."""
        self.event_log = EventLog()
        """Where events wait for consumers that fell behind."""
        self.spillway = Spillway(self.event_log)
        self._replay: Replay | None = None
        self._workforce = Workforce(self.feedback, self.spillway, backend)
        self._falling_behind = FallingBehind(self.feedback.report_behind)
        self._measure_at = 0.0
        self._closed = False
        self._inert = False
        self._host: anyio.abc.TaskGroup | None = None

    @property
    def running(self) -> bool:
        """Whether the pump is at work."""
        return self._pump is not None

    @property
    def closed(self) -> bool:
        """Whether the bus has left its with block or was closed."""
        return self._closed

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until all that was emitted has been handled; False at the time-out (s).

        The default is the bus's drain_timeout. Subscribers that are stuck count as served; a
        handler does not wait for itself, nor an event loop for the handlers that run on it.
        """
        pump = self._pump
        if pump is None:
            return True
        deadline = time.monotonic() + (self.drain_timeout if timeout is None else timeout)
        if not pump.drain(max(0.0, deadline - time.monotonic())):
            return False
        return self._workforce.wait_settled(deadline)

    def start(self) -> Self:
        """Starts the pump and the workers; idempotent. A run does it where nobody else has.

        Raises:
            BusClosedError: the bus is closed.
            DeliveryError: a required subscriber could not be set up; the bus is stopped again.
        """
        self._check_open()
        try:
            with self._roster.lock:
                if self._pump is not None:
                    return self
                self._pump = Pump(self, self._queue, self._roster)
                self._pump.start()
                self._workforce.begin(self._roster.subscriptions)
                self._pump.retarget()
            self._workforce.wait_ready(time.monotonic() + self.setup_timeout)
        except BaseException:
            self.stop(min(self.drain_timeout, 1.0))
            raise
        return self

    def hold(self) -> None:
        """Starts the bus for a run, unless it runs; `let_go` is to be called when the run ends.

        Raises:
            BusClosedError, DeliveryError: as `start`.
        """
        with self._roster.lock:
            if self._pump is None and self._holders is None:
                self._holders = 0
            if self._holders is not None:
                self._holders += 1
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.let_go(0)
            raise

    def let_go(self, timeout: float) -> None:
        """Stops the bus if runs alone have held it and this was the last of them."""
        with self._roster.lock:
            if self._holders is None:
                return
            self._holders -= 1
            last = not self._holders
        if last:
            self.stop(timeout)

    def wait_ready(self) -> None:
        """Waits for the set-up of those who were subscribed while the bus was running.

        Raises:
            DeliveryError: a required subscriber could not be set up.
        """
        self._workforce.wait_ready(time.monotonic() + self.setup_timeout)

    def stop(self, timeout: float | None = None) -> None:
        """Drains, calls every teardown and ends all threads; the bus can be started again.

        Args:
            timeout: seconds for all of it; the bus's drain_timeout by default. What is not
                handled by then is dropped, and said. Values that are still on the device are
                waited for during the first half of it.

        Raises:
            StepbusError: called from a handler, which would wait for itself.
        """
        if self._inert:
            return
        if self._workforce.serves_caller():
            raise StepbusError(
                "A handler cannot stop the bus that it is called by: return Vote('stop') to end "
                "the run, or let the program stop the bus."
            )
        seconds = self.drain_timeout if timeout is None else timeout
        deadline = time.monotonic() + seconds
        with self._roster.lock:
            pump, self._pump, self._holders = self._pump, None, None
        if pump is None:
            return
        half = deadline - seconds / 2
        pump.give_up_waiting(half)
        for _ in range(ROUNDS):
            # What handlers publish while they drain, their failures too, is delivered as well.
            drained = pump.drain(deadline - time.monotonic())
            if not drained or not self._workforce.wait_settled(half) or not self._queue:
                break
        pump.stop(max(0.1, deadline - time.monotonic()))
        self._workforce.dismiss(deadline)
        self.event_log.close(max(0.5, deadline - time.monotonic()))
        if self._replay is not None:
            self._replay.rest(max(0.5, deadline - time.monotonic()))

    def close(self, timeout: float | None = None) -> None:
        """As `stop`, and for good; may be called again."""
        self.stop(timeout)
        self._closed = True
        for link in self._roster.links:
            link.silence()
        self._workforce.end_streams()
        if self._replay is not None:
            self._replay.close()
        self._queue.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(self._closing_s(kind))

    async def __aenter__(self) -> Self:
        self._check_open()
        self._host = anyio.create_task_group()
        await self._host.__aenter__()
        self._workforce.use_host_loop(self._host)
        try:
            await anyio.to_thread.run_sync(self.start, limiter=anyio.CapacityLimiter(1))
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = self._closing_s(kind)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close, seconds, limiter=anyio.CapacityLimiter(1))
        self._workforce.leave_host_loop()
        assert self._host is not None
        host, self._host = self._host, None
        # Without the exception, which the group would wrap: none of its tasks ever raises.
        await host.__aexit__(None, None, None)

    def _closing_s(self, kind: type[BaseException] | None) -> float:
        return self.drain_timeout if kind is None else min(self.drain_timeout, AFTER_ERROR_S)

    def targets(self, kind: type[Event]) -> list[Target]:
        """Who takes events of a class; for the pump."""
        found: list[Target] = []
        for subscription in self._roster.subscriptions:
            worker = self._workforce.worker_of(subscription)
            route = subscription.route(kind)
            if worker is not None and route is not None:
                found.append((subscription, route, worker))
        return found

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens concurrently; for the pump."""
        return any(s.delivery != "gate" for s in self._roster.subscriptions)

    @property
    def subscribed(self) -> tuple[object, ...]:
        """Who is subscribed: functions, methods and `Subscriber`s, in their order."""
        return tuple(subscription.target for subscription in self._roster.subscriptions)

    def worker_of(self, subscription: Subscription) -> Worker | None:
        """Who runs a subscription, if anybody does; for the pump."""
        return self._workforce.worker_of(subscription)

    def run_of(self, state: object) -> RunLink | None:
        """The open run that this is the live state of, else the only one that is open, if any."""
        links = self._roster.links
        return next((link for link in links if link.state is state), None) or (
            links[0] if len(links) == 1 else None
        )

    def wake_loop(self, workers: Iterable[Worker]) -> None:
        """Wakes those of some workers that run on an event loop; for the pump."""
        self._workforce.wake(workers)

    def wake_some_readers(self) -> None:
        """Wakes the next few readers that have mail; for the pump, at each tick."""
        self._workforce.wake_some_readers()

    def look_after_workers(self, now: float) -> None:
        """Notices who is over its time-out, costs much or falls behind; for the pump."""
        self._workforce.look(now)
        self._falling_behind.look(self._workforce.workers, now)
        if now >= self._measure_at:
            self._measure_at = now + MEASURE_EVERY_S
            for subscription in self._roster.subscriptions:
                subscription.measure()

    def make_inert(self) -> None:
        """Called in a forked child: see `bus.fork`."""
        self._inert = True
        self.append = fork.refuse
        self._pump = None
        self._workforce.make_inert()
        if self._replay is not None:
            self._replay.make_inert()
        # One of the parent's threads may have held it.
        self._roster.lock = threading.RLock()
        for link in self._roster.links:
            link.make_inert()

    def _check_open(self) -> None:
        if self._inert:
            fork.refuse()
        if self._closed:
            raise BusClosedError(
                "This EventBus is closed: subscribe, publish and vote before it leaves its with "
                "block, or make a new one."
            )


def _check_backend(backend: str) -> None:
    if backend not in ("asyncio", "trio"):
        raise ArgumentError(f"EventBus(backend={backend!r}): give 'asyncio' or 'trio'.")
    if importlib.util.find_spec(backend) is None:
        raise ArgumentError(f"EventBus(backend={backend!r}): pip install {backend} first.")
