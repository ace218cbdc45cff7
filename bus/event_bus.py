"""The bus: who listens, the threads that serve them, and the runs they listen to."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..schemas import Action, Event, RunFailed, TrainEnd, TrainerState, Vote, VotePolicy
from ..schemas.errors import ArgumentError, BusClosedError
from ..schemas.event import event_class
from . import fork
from .built_in import BuiltInCallback, sides_of
from .checks import check_count, check_seconds
from .clock import Clock, SystemClock
from .control_channel import Cast, ControlChannel, Settle
from .event_stream import EventStream, StreamWorker, no_votes
from .filters import Filter
from .late_reader import LateReader, Wanted, check_since
from .ledger import Ledger
from .lifetime import BusLifetime
from .mailbox import Overflow
from .published import Published
from .pump import Request
from .ranks import ranks_of
from .replay import Replay, ReplaySubscription
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
        replay: keep what happens for readers that come late, `events(since=...)`, on disk: True
            for the last 100,000 events, or a number of them.

    Raises:
        ArgumentError: an unknown backend or action, or a time or number that is not positive.
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
        replay: bool | int = False,
    ) -> None:
        check_seconds("stall_after", stall_after)
        if not isinstance(replay, bool):
            check_count("replay", replay, 1)
        _check_policies(policies or {})
        super().__init__(
            ControlChannel(clock or SystemClock(), policies), backend, drain_timeout, setup_timeout
        )
        self._stall_after = stall_after
        if replay:
            self._replay = Replay() if replay is True else Replay(replay)
            self._add(ReplaySubscription(self._replay))
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

        With one run open, or that of its `run_id`, the event becomes part of it: header, number,
        step and state. With the `run_id` of a run that has ended it takes that run's next number.
        Gate handlers do not get it, since it may come from any thread.

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
        numbering = None
        if link is None and event.run_id in self._roster.ended:
            attempt, numbering = self._roster.ended[event.run_id]
            event = event.model_copy(update={"attempt": attempt}).attach_state_of(event)
        self.append(Published(event, link, self.clock.monotonic(), numbering))

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
        run_id: str | Collection[str] | None = None,
        since: int | tuple[int, int] | None = None,
        name: str = "events()",
    ) -> EventStream:
        """An async iterator over events of some kinds (all, where none is named).

        It begins with what is emitted after this call, and ends when the bus closes or after an
        event of a kind in `until`, which no filter but `run_id` keeps out; a run that fails ends
        what waits for `train_end` too. Works on asyncio and trio, on any loop of the process.

        With `since` it begins at a number (`seq`) of the run `run_id`, or at an attempt and a
        number; without a `run_id`, 0 begins with all that is kept. The bus must have been made
        with `replay`, which keeps what is not said several times a step. What was before the call
        comes first, then what follows, without gap and without repeat. Such events were read from
        JSON: they have no `state`, and hold no checkpoint back. One that asks for the events after
        the last of a run ends at once.

        Raises:
            BusClosedError: the bus is closed.
            EventsGoneError: what `since` asks for is no longer kept.
            ArgumentError: as `subscribe`; a `since` on a bus that keeps nothing, or of kinds that
                are not kept.
        """
        self._check_open()
        chosen = Filter(every=every, when=when, run_id=run_id)
        kinds = tuple(Event if event == "*" else event_class(event) for event in events)
        last = _endings(until)
        if since is not None:
            others = {
                "every": every,
                "mailbox_size": mailbox_size,
                "overflow": "" if overflow == "spill" else overflow,
                "run_id (several)": not isinstance(run_id, str | None),
            }
            run = run_id if isinstance(run_id, str) else None
            check_since(since, run, (*kinds, *last), others)
            return self._late_stream(kinds or (Event,), last, run, since, when)
        routes = [Route(kind, no_votes, chosen) for kind in kinds or (Event,) if kind not in last]
        routes += [Route(kind, no_votes, Filter(run_id=run_id)) for kind in last]
        # Whoever reads them is in this process, whichever rank it has.
        options = Options(overflow=overflow, mailbox_size=mailbox_size, name=name, ranks="all")
        subscription = Subscription(no_votes, routes, options)
        subscription.renew_mailbox(self.spillway)
        worker = StreamWorker(subscription, self.feedback)
        self._workforce.adopt(worker)
        self._add(subscription)
        return EventStream(worker, last, lambda: self._drop_stream(subscription), self.request)

    def _late_stream(
        self,
        kinds: tuple[type[Event], ...],
        last: tuple[type[Event], ...],
        run_id: str | None,
        since: int | tuple[int, int],
        when: Callable[[Any], object] | None,
    ) -> EventStream:
        if self._replay is None:
            raise ArgumentError(
                f"since={since!r}: this bus keeps nothing for readers that come late. Make it with "
                "EventBus(replay=True)."
            )
        cursor, key = self._replay.cursor(run_id, since)
        reader = LateReader(self._replay, cursor, Wanted(kinds, last, run_id, key, when))
        if self._replay.has_ended(run_id, key, last):
            reader.end()
        return EventStream(reader, last, reader.end, self.request)

    def _drop_stream(self, subscription: Subscription) -> None:
        """Ends the subscription of a stream."""
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
        link.measured.close()
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

    def request(self, call: Callable[[], object], *, at_once: bool = False) -> None:
        """Has the pump call a function of the bus's own, after what was emitted so far.

        Args:
            call: what to call.
            at_once: rather than when it looks next.
        """
        self.append(Request(call))
        pump = self._pump
        if at_once and pump is not None:
            pump.attend()

    def refresh(self, link: RunLink | None = None) -> None:
        """Tells the emitters of one run, or of all, who listens."""
        with self._roster.lock:
            self._roster.refresh(link)

    def _add(self, subscription: Subscription) -> None:
        if not ranks_of().serve(subscription.options.ranks):
            self._roster.elsewhere.append(subscription)
            return
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
            if self._roster.forget_elsewhere(target):
                return 1
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
