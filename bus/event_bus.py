"""The bus: who listens, the threads that serve them, and the runs they listen to."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread

from ..schemas import Action, Event, TrainerState, Vote, VotePolicy
from ..schemas.errors import ArgumentError, BusClosedError
from ..schemas.event import event_class
from . import fork
from .clock import Clock, SystemClock
from .control_channel import Cast, ControlChannel, Settle
from .diagnostics import get_logger
from .event_stream import EventStream, StreamWorker, no_votes
from .filters import Filter
from .ledger import LedgerRow
from .mailbox import Overflow
from .pump import Published, Pump, Target
from .run_link import RunLink
from .stall_watch import LEAST_S
from .subscribing import Subscribing
from .subscription import Options, Route, Subscription
from .vote_files import VoteFiles
from .worker import Worker
from .workforce import Workforce

log = get_logger()


class EventBus(Subscribing):
    """An in-process event bus: a run emits, everyone else listens, nobody waits.

    Either it is started and stopped by the run that uses it, or it lives in a `with` or `async
    with` block; in the latter its async handlers run on the host's own event loop. A run's events
    reach each subscriber in order, through a mailbox of its own.

    Args:
        backend: the event loop that stepbus makes where there is no host's: "asyncio" or "trio".
        drain_timeout: how long a closing bus waits for its subscribers, s.
        setup_timeout: how long a starting bus waits for `open()` of its subscribers, s.
        policies: what it takes to carry an action, where that is not *any vote*.
        stall_after: no silence of the training thread shorter than this is a stall, s.
        clock: where the bus reads the time; for tests.

    Raises:
        ArgumentError: an unknown backend or action, or a time that is not positive.
    """

    def __init__(
        self,
        *,
        backend: str = "asyncio",
        drain_timeout: float = 60.0,
        setup_timeout: float = 30.0,
        policies: Mapping[Action, VotePolicy] | None = None,
        stall_after: float = LEAST_S,
        clock: Clock | None = None,
    ) -> None:
        for name, seconds in (
            ("drain_timeout", drain_timeout),
            ("setup_timeout", setup_timeout),
            ("stall_after", stall_after),
        ):
            if not seconds > 0:
                raise ArgumentError(f"EventBus({name}={seconds!r}): give seconds above 0.")
        if backend not in ("asyncio", "trio"):
            raise ArgumentError(f"EventBus(backend={backend!r}): give 'asyncio' or 'trio'.")
        for action in policies or {}:
            Vote(action)
        self.clock: Clock = clock or SystemClock()
        self.drain_timeout = drain_timeout
        self.setup_timeout = setup_timeout
        self.channel = ControlChannel(self.clock, policies)
        self._stall_after = stall_after
        self._queue: deque[Any] = deque()
        self.append: Callable[[Any], None] = self._queue.append
        self._lock = threading.RLock()
        self._subscriptions: list[Subscription] = []
        self._links: list[RunLink] = []
        self._pump: Pump | None = None
        self._workforce = Workforce(self, backend)
        self._closed = False
        self._inert = False
        self._host: anyio.abc.TaskGroup | None = None
        fork.register(self)

    @property
    def running(self) -> bool:
        """Whether the pump is at work."""
        return self._pump is not None

    @property
    def closed(self) -> bool:
        """Whether the bus has left its with block or was closed."""
        return self._closed

    @property
    def ledger(self) -> list[LedgerRow]:
        """What each subscriber cost so far."""
        rows = [subscription.ledger_row() for subscription in self._subscriptions]
        return rows + [row for link in self._links for row in link.gate.ledger()]

    def publish(self, event: Event) -> None:
        """Publishes an event of your own to all who listen; from any thread, never waits.

        With one run open the event becomes part of it: header, number, step and state.

        Raises:
            BusClosedError: the bus is closed.
            ArgumentError: not an event.
        """
        self._check_open()
        if not isinstance(event, Event):
            raise ArgumentError(f"{event!r} is no event: publish an instance of a subclass of Event.")
        links = self._links
        link = next((link for link in links if link.run_id == event.run_id), None)
        if link is None and len(links) == 1 and not event.run_id:
            link = links[0]
        self.append(Published(event, link, self.clock.monotonic()))

    def vote(
        self,
        action: str | Vote,
        *,
        reason: str = "",
        voter: str = "",
        run_id: str | None = None,
        **fields: Any,
    ) -> bool:
        """Casts a vote from outside of a handler; from any thread.

        It acts at the next merge point of the run, or of all open runs where no `run_id` is given;
        with no run open it waits for the next. False when the run has ended already.

        Raises:
            BusClosedError: the bus is closed.
            ArgumentError: unknown action.
        """
        self._check_open()
        if isinstance(action, Vote):
            vote = action if action.voter else action.model_copy(update={"voter": voter or "vote()"})
        else:
            vote = Vote(action, reason=reason, voter=voter or "vote()", **fields)
        return self.channel.post(vote, run_id=run_id)

    def events(
        self,
        *events: str | type[Event],
        until: str | type[Event] | None = None,
        overflow: Overflow = "buffer",
        mailbox_size: int | None = None,
        every: int | None = None,
        when: Callable[[Any], object] | None = None,
        name: str = "events()",
    ) -> EventStream:
        """An async iterator over events of some kinds (all, where none is named).

        It begins with what is emitted after this call, and ends when the bus closes or after an
        event of the kind `until`. Works on asyncio and trio, on any loop of the process.
        """
        self._check_open()
        kinds = [event_class(e) for e in events if e != "*"] or [Event]
        if until is not None:
            kinds.append(event_class(until))
        target = object()
        chosen = Filter(every=every, when=when)
        subscription = Subscription(
            no_votes,
            [Route(kind, no_votes, chosen) for kind in kinds],
            Options(overflow=overflow, mailbox_size=mailbox_size, name=name),
        )
        subscription.target = target
        stream = EventStream(self, subscription, event_class(until) if until is not None else None)
        worker = StreamWorker(subscription, self)
        stream.attach(worker)
        self._workforce.adopt(worker)
        self._add(subscription)
        return stream

    def open_run(
        self,
        state: TrainerState,
        *,
        run_id: str | None = None,
        attempt: int = 1,
        rank: int = 0,
        folder: Path | None = None,
    ) -> RunLink:
        """Connects a run to the bus, which must be running. For the engine.

        Raises:
            BusClosedError: the bus is closed or not started.
        """
        self._check_open()
        if self._pump is None:
            raise BusClosedError("The bus is not running: start() it before a run is opened.")
        run_id = run_id or uuid.uuid4().hex[:12]
        control = self.channel.open(run_id)
        link = RunLink(
            self, control, run_id=run_id, attempt=attempt, rank=rank, state=state, folder=folder
        )
        with self._lock:
            self._links = [*self._links, link]
        self.refresh(link)
        files = None
        if folder is not None:
            files = VoteFiles(folder, lambda vote, settle: self._post_file(vote, run_id, settle))
        self._pump.watch(link, files, self._stall_after)
        return link

    def close_run(self, link: RunLink) -> list[Cast]:
        """Disconnects a run and gives back the votes that nothing came of."""
        left = self.channel.close(link.run_id)
        if self._pump is not None:
            self._pump.unwatch(link)
        with self._lock:
            self._links = [other for other in self._links if other is not link]
            for subscription in self._subscriptions:
                subscription.forget_run(link.key)
        return left

    def flush(self, timeout: float | None = None) -> bool:
        """Waits until all that was emitted has been handled; False at the time-out (s).

        The default is the bus's drain_timeout. Subscribers that are stuck count as served.
        """
        if self._pump is None:
            return True
        deadline = time.monotonic() + (self.drain_timeout if timeout is None else timeout)
        if not self._pump.drain(max(0.0, deadline - time.monotonic())):
            return False
        return self._workforce.wait_settled(deadline)

    def start(self) -> Self:
        """Starts the pump and the workers; idempotent. A run does it where nobody else has.

        Raises:
            BusClosedError: the bus is closed.
            DeliveryError: a required subscriber could not be set up.
        """
        self._check_open()
        with self._lock:
            if self._pump is not None:
                return self
            self._pump = Pump(self, self._queue)
            for subscription in self._subscriptions:
                self._workforce.hire(subscription)
            self._pump.start()
        self._workforce.wait_ready(time.monotonic() + self.setup_timeout)
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Drains, calls every teardown and ends all threads; the bus can be started again.

        Args:
            timeout: seconds for all of it; the bus's drain_timeout by default. What is not
                handled by then is dropped, and said.
        """
        deadline = time.monotonic() + (self.drain_timeout if timeout is None else timeout)
        with self._lock:
            pump, self._pump = self._pump, None
        if pump is None:
            return
        pump.stop(max(0.1, deadline - time.monotonic()))
        self._workforce.dismiss(deadline)

    def close(self, timeout: float | None = None) -> None:
        """As `stop`, and for good."""
        self.stop(timeout)
        self._closed = True
        self._workforce.end_streams()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self._host = anyio.create_task_group()
        await self._host.__aenter__()
        self._workforce.use_host_loop(self._host)
        await anyio.to_thread.run_sync(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close)
        assert self._host is not None
        host, self._host = self._host, None
        return await host.__aexit__(kind, error, trace)

    def post(self, vote: Vote, event: Event) -> None:
        """Casts a vote that a handler returned; it belongs to the run of its event."""
        if not event.run_id:
            self.channel.post(vote)
        elif not self.channel.post(vote, run_id=event.run_id):
            log.warning(
                f"{vote.voter} voted {vote.action!r} on {event.name} (step {event.step}) after run "
                f"{event.run_id} had ended: recorded as late, nothing is done."
            )
            if event.name != "verdict":
                self._publish_late(vote, event)

    def report_failure(self, subscription: Subscription, event: Event | None, error: str) -> None:
        """Publishes `subscriber_failed` for all others to know."""
        account = subscription.account
        run_id = event.run_id if event is not None else ""
        link = next((link for link in self._links if link.run_id == run_id), None)
        emitter = link.emitters["subscriber_failed"] if link is not None else None
        if emitter is None or not emitter.wanted:
            return
        emitter.emit(
            {
                "subscriber": subscription.name,
                "event_name": event.name if event is not None else "",
                "event_seq": event.seq if event is not None else -1,
                "error": error,
                "failures": account.failures,
                "quarantined": bool(account.quarantined),
            }
        )

    def targets(self, kind: type[Event]) -> list[Target]:
        """Who takes events of a class; for the pump."""
        found: list[Target] = []
        for subscription in self._subscriptions:
            worker = self._workforce.worker_of(subscription)
            route = subscription.route(kind)
            if worker is not None and route is not None:
                found.append((subscription, route, worker))
        return found

    def wake_loop(self, workers: Iterable[Worker]) -> None:
        """Wakes those of some workers that run on an event loop; for the pump."""
        self._workforce.wake(workers)

    def look_after_workers(self, now: float) -> None:
        """Notices handlers over their time-out and those that cost much; for the pump."""
        self._workforce.look(now)

    def refresh(self, link: RunLink | None = None) -> None:
        """Tells the emitters of one run, or of all, who listens."""
        concurrent = [s for s in self._subscriptions if s.delivery != "gate"]
        gates = [s for s in self._subscriptions if s.delivery == "gate"]

        def wants(kind: type[Event]) -> bool:
            return any(subscription.route(kind) is not None for subscription in concurrent)

        for each in [link] if link is not None else self._links:
            each.listen(wants, gates)

    def make_inert(self) -> None:
        """Called in a forked child: see `bus.fork`."""
        self._inert = True
        self.append = fork.refuse
        self._pump = None
        for link in self._links:
            for emitter in link.emitters.values():
                emitter.make_inert()

    def _add(self, subscription: Subscription) -> None:
        with self._lock:
            subscription.since = self.clock.monotonic()
            self._subscriptions = [*self._subscriptions, subscription]
            if self._pump is not None:
                self._workforce.hire(subscription)
                self._pump.retarget()
        self.refresh()

    def _remove(self, target: object) -> int:
        with self._lock:
            gone = [s for s in self._subscriptions if s.target is target or s.target == target]
            self._subscriptions = [s for s in self._subscriptions if s not in gone]
            if self._pump is not None:
                self._pump.retarget()
        self.refresh()
        for subscription in gone:
            self._workforce.retire(subscription)
        return len(gone)

    def _check_open(self) -> None:
        if self._inert:
            fork.refuse()
        if self._closed:
            raise BusClosedError(
                "This EventBus is closed: subscribe, publish and vote before it leaves its with "
                "block, or make a new one."
            )

    def _post_file(self, vote: Vote, run_id: str, settle: Settle) -> bool:
        if self.channel.post(vote, run_id=run_id, settle=settle):
            return True
        settle({"outcome": "late", "action": vote.action, "detail": "the run had ended"})
        return False

    def _publish_late(self, vote: Vote, event: Event) -> None:
        verdict = event_class("verdict").model_validate(
            {
                "run_id": event.run_id,
                "attempt": event.attempt,
                "action": vote.action,
                "outcome": "late",
                "votes": [vote],
                "point": event.name,
                "seen_at": vote.step,
                "acted_at": event.step,
                "detail": "the run had ended when the vote arrived",
            }
        )
        self.append(Published(verdict, None, self.clock.monotonic()))
