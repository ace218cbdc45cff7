"""The bus: who listens, the threads that serve them, and the runs they listen to."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..schemas import Action, Event, RunFailed, TrainEnd, TrainerState, Vote, VotePolicy
from ..schemas.errors import ArgumentError, BusClosedError
from ..schemas.event import event_class
from . import fork
from .built_in import BuiltInCallback, sides_of
from .checks import check_seconds
from .clock import Clock, SystemClock
from .control_channel import Cast, ControlChannel, Settle
from .event_stream import EventStream, StreamWorker, no_votes
from .filters import Filter
from .ledger import Ledger
from .lifetime import BusLifetime
from .mailbox import Overflow
from .published import Published
from .pump import Request
from .run_link import RunLink
from .stall_watch import LEAST_S
from .subscribing import Subscribing
from .subscription import Options, Route, Subscription
from .vote_files import VoteFiles


class EventBus(BusLifetime, Subscribing):
    """An in-process event bus: a run emits, everyone else listens, nobody waits.

    Either it is started and stopped by the run that uses it, or it lives in a `with` or `async
    with` block; in the latter its async handlers run on the host's own event loop. A run's events
    reach each subscriber in order, through a mailbox of its own.

    Args:
        backend: the event loop that stepbus makes where there is no host's: "asyncio" or "trio".
        drain_timeout: how long a closing bus waits for its subscribers, s; at most 10 s of it
            where an exception or a cancellation leaves the with block.
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
        check_seconds("stall_after", stall_after)
        _check_policies(policies or {})
        super().__init__(
            ControlChannel(clock or SystemClock(), policies), backend, drain_timeout, setup_timeout
        )
        self._stall_after = stall_after
        fork.register(self)

    @property
    def ledger(self) -> Ledger:
        """What each subscriber cost so far, and each open run; cheap, from any thread."""
        return self._roster.ledger()

    def ledger_of(self, link: RunLink) -> Ledger:
        """As `ledger`, with the gate of one run, open or not, and what it cost. For the engine."""
        return self._roster.ledger(link)

    def publish(self, event: Event) -> None:
        """Publishes an event of your own to all who listen; from any thread, never waits.

        With one run open the event becomes part of it: header, number, step and state. Gate
        handlers do not get it, since it may come from any thread.

        Raises:
            BusClosedError: the bus is closed.
            ArgumentError: not an event.
        """
        self._check_open()
        if not isinstance(event, Event):
            raise ArgumentError(
                f"{event!r} is no event: publish an instance of a subclass of Event."
            )
        links = self._roster.links
        link = self._roster.link_of(event.run_id) if event.run_id else None
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
            vote = (
                action if action.voter else action.model_copy(update={"voter": voter or "vote()"})
            )
        else:
            vote = Vote(action, reason=reason, voter=voter or "vote()", **fields)
        posted = self.channel.post(vote, run_id=run_id)
        if not posted and run_id is not None:
            self.feedback.too_late(vote, run_id)
        return posted

    def events(
        self,
        *events: str | type[Event],
        until: str | type[Event] | Iterable[str | type[Event]] = (),
        overflow: Overflow = "spill",
        mailbox_size: int | None = None,
        every: int | None = None,
        when: Callable[[Any], object] | None = None,
        name: str = "events()",
    ) -> EventStream:
        """An async iterator over events of some kinds (all, where none is named).

        It begins with what is emitted after this call, and ends when the bus closes or after an
        event of a kind in `until`, which no filter keeps out; a run that fails ends what waits for
        `train_end` too. Works on asyncio and trio, on any loop of the process.

        Raises:
            BusClosedError: the bus is closed.
            ArgumentError: as `subscribe`.
        """
        self._check_open()
        chosen = Filter(every=every, when=when)
        kinds = [Event if event == "*" else event_class(event) for event in events] or [Event]
        last = _endings(until)
        routes = [Route(kind, no_votes, chosen) for kind in kinds if kind not in last]
        routes += [Route(kind, no_votes, Filter()) for kind in last]
        options = Options(overflow=overflow, mailbox_size=mailbox_size, name=name)
        subscription = Subscription(no_votes, routes, options)
        subscription.renew_mailbox(self.spillway)
        worker = StreamWorker(subscription, self.feedback)
        self._workforce.adopt(worker)
        self._add(subscription)
        return EventStream(self, worker, last)

    def drop_stream(self, subscription: Subscription) -> None:
        """Ends the subscription of a stream. For the stream."""
        self._remove(subscription)

    def open_run(
        self,
        state: TrainerState,
        *,
        run_id: str | None = None,
        attempt: int = 1,
        rank: int = 0,
        folder: Path | None = None,
        trains: bool = True,
    ) -> RunLink:
        """Connects a run to the bus, which must be running. For the engine.

        Votes that wait for a run go to the next one that `trains`.

        Raises:
            BusClosedError: the bus is closed or not started.
            ArgumentError: a run of that name is open.
            DeliveryError: a required gate subscriber could not be set up.
        """
        self._check_open()
        run_id = run_id or uuid.uuid4().hex[:12]
        with self._roster.lock:
            pump = self._pump
            if pump is None:
                raise BusClosedError("The bus is not running: start() it before a run is opened.")
            control = self.channel.open(run_id, takes_waiting=trains)
            link = RunLink(
                self, control, run_id=run_id, attempt=attempt, rank=rank, state=state, folder=folder
            )
            former = self._roster.ended.get(run_id)
            if former is not None and former[0] == attempt:
                # The same start of the same run goes on, as with an evaluation after training.
                link.numbering = former[1]
            self._roster.links = [*self._roster.links, link]
            self._roster.refresh(link)
            self._workforce.note_run(link, is_open=True)
        files = None
        if folder is not None:
            files = VoteFiles(folder, lambda vote, settle: self._post_file(vote, run_id, settle))
        pump.watch(link, files, self._stall_after)
        try:
            link.gate.open()
        except BaseException:
            self.close_run(link)
            raise
        return link

    def close_run(self, link: RunLink) -> list[Cast]:
        """Disconnects a run and gives back the votes that nothing came of.

        To be called on the run's thread, where gate subscribers are torn down.
        """
        link.gate.close()
        self._roster.remember(link)
        left = self.channel.close(link.run_id)
        with self._roster.lock:
            if self._pump is not None:
                self._pump.unwatch(link)
            self._roster.links = [other for other in self._roster.links if other is not link]
            self._workforce.note_run(link, is_open=False)

        def forget() -> None:
            for subscription in self._roster.subscriptions:
                subscription.forget_run(link.key)

        # After the events of the run that are still in the queue.
        self.request(forget)
        return left

    def request(self, call: Callable[[], object]) -> None:
        """Has the pump call a function of the bus's own, after what was emitted so far."""
        self.append(Request(call))

    def refresh(self, link: RunLink | None = None) -> None:
        """Tells the emitters of one run, or of all, who listens."""
        with self._roster.lock:
            self._roster.refresh(link)

    def _add(self, subscription: Subscription) -> None:
        if isinstance(subscription.target, BuiltInCallback):
            sides_of(subscription.target).attach(self, subscription)
        with self._roster.lock:
            subscription.since = self.clock.monotonic()
            self._roster.add(subscription)
            if self._pump is not None:
                self._workforce.hire(subscription)
                self._pump.retarget()
            self._roster.refresh()

    def _remove(self, target: object) -> int:
        if self._inert:
            fork.refuse()
        with self._roster.lock:
            gone = self._roster.remove(target)
            if self._pump is not None:
                self._pump.retarget()
            self._roster.refresh()
        for subscription in gone:
            if isinstance(subscription.target, BuiltInCallback):
                sides_of(subscription.target).detach(subscription)
            self._workforce.retire(subscription)
        return len(gone)

    def _post_file(self, vote: Vote, run_id: str, settle: Settle) -> bool:
        if self.channel.post(vote, run_id=run_id, settle=settle):
            return True
        settle({"outcome": "late", "action": vote.action, "detail": "the run had ended"})
        return False


def _endings(until: str | type[Event] | Iterable[str | type[Event]]) -> tuple[type[Event], ...]:
    kinds = [until] if isinstance(until, str | type) else list(until)
    ends = tuple(event_class(kind) for kind in kinds)
    return (*ends, RunFailed) if TrainEnd in ends else ends


def _check_policies(policies: Mapping[Action, VotePolicy]) -> None:
    for action, policy in policies.items():
        Vote(action)
        if not isinstance(policy, VotePolicy):
            raise ArgumentError(
                f"policies[{action!r}] is {policy!r}: give a VotePolicy, such as "
                "VotePolicy(rule='all', voters=('a', 'b'))."
            )
