"""One subscriber in a sidecar: its thread, its place in its stream, what it sends back."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ...schemas import Event, Measured, RunFailed, Save, TrainEnd, Vote
from ...schemas.errors import DeliveryError
from ..clock import Clock, SystemClock
from ..diagnostics import get_logger
from ..filters import Filter
from ..handling import one_line
from ..ledger import Account
from ..subscriber import Subscriber
from ..subscription import (
    Options,
    Subscription,
    subscription_of_function,
    subscription_of_subscriber,
)
from ..thread_worker import ThreadWorker
from .accounting import SUMS
from .far_lease import FarLease
from .open_runs import Endings, run_of
from .recipe import Recipe, find

log = get_logger()

Send = Callable[..., None]
"""Sends a message to the trainer: its kind, and its fields by name."""

COUNTED = (*SUMS, "lag_s", "max_lag_s", "quarantined")
"""What the trainer is told of an account, besides `dropped`."""


class Answers:
    """What a worker in a sidecar needs of the bus: its side of the pipe."""

    def __init__(self, guest: Guest, send: Send) -> None:
        self.clock: Clock = SystemClock()
        self._guest = guest
        self._send = send
        self._voted_at = -1
        self._index = 0

    def post(self, vote: Vote, event: Event | None) -> None:
        """Sends a vote that a handler returned."""
        at = self._guest.position if event is not None else None
        if at is not None:
            self._index = self._index + 1 if at == self._voted_at else 0
            self._voted_at = at
        self._send("vote", at=at, index=self._index, vote=vote.model_dump(mode="json"))

    def measured(self, measured: Measured, event: Event, by: str) -> None:
        """Sends values that a handler returned; before word that the event is dealt with."""
        self._send("measured", at=self._guest.position, values=measured.values)

    def report_failure(self, subscription: Subscription, event: Event | None, error: str) -> None:
        """Sends word of a failure."""
        at = self._guest.position if event is not None else None
        self._send("failed", at=at, error=error, account=counted(subscription.account))


class Guest:
    """Serves one subscriber of the trainer in a thread of this process.

    Args:
        message: how to make it again, and where its stream begins.
        send: takes a message for the trainer.
    """

    def __init__(self, message: dict[str, Any], send: Send) -> None:
        number = message["to"]

        def send_of_mine(kind: str, **fields: Any) -> None:
            # Of one that was left behind nothing counts any more.
            if not self.left_behind:
                send(kind, of=number, **fields)

        self.number: int = number
        self.name: str = message["name"]
        self.gone = False
        """Whether it has ended, or was left behind."""
        self.left_behind = False
        """Whether its thread has not ended with it."""
        self._send: Send = send_of_mine
        self._at: int = message["at"]
        self._done = self._at
        self._settled = self._at
        self._handled_at: deque[tuple[float, int]] = deque()
        """When it was seen to have handled how much of what is not acknowledged."""
        self._said_ready = False
        self._whereabouts_failed = False
        self._whereabouts: dict[str, str] = {}
        self._endings = Endings()
        self._worker: ThreadWorker | None = None
        try:
            self._subscription = _made(message)
        except BaseException as error:
            self.gone = True
            self._send("ready", error=one_line(error))
            return
        self._worker = ThreadWorker(self._subscription, Answers(self, send_of_mine))
        self._worker.start()

    @property
    def position(self) -> int:
        """The event that its handler has now."""
        assert self._worker is not None
        return self._at + self._worker.mailbox.settled

    @property
    def busy(self) -> bool:
        """Whether something may change at any moment."""
        worker = self._worker
        if worker is None or self.gone:
            return False
        mailbox = worker.mailbox
        waits = mailbox.settled < mailbox.accepted or self._done < self._settled
        return worker.phase != "handlers" or mailbox.closed or waits

    def take(self, events: list[Event]) -> None:
        """Puts events into its mailbox."""
        if self._worker is not None and not self.gone:
            self._endings.saw(events)
            for at, event in enumerate(events, self._at + self._worker.mailbox.accepted):
                if isinstance(event, Save):
                    object.__setattr__(event, "lease", FarLease(at, self._send))
            self._worker.mailbox.put(events)

    def take_last(self, killed: Iterable[RunFailed], ended: Endings) -> None:
        """Puts in the ends of runs whose process is dead, where it takes and has not had them.

        Args:
            killed: an event for each run that was open.
            ended: the runs that somebody in this process has seen the end of.
        """
        if self._worker is None or self._subscription.handler_route(RunFailed) is None:
            return
        knows_ends = self._subscription.handler_route(TrainEnd) is not None
        seen = self._endings if knows_ends else ended
        self.take([event for event in killed if run_of(event) not in seen])

    def close(self) -> None:
        """Has it tear down once its mail is handled."""
        if self._worker is not None:
            self._worker.mailbox.close()

    def abandon(self) -> None:
        """Has it drop its mail and tear down."""
        if self._worker is not None:
            self._worker.abandon()

    def leave_behind(self) -> None:
        """Lets go of it wherever its thread stands; nothing that it still does counts."""
        self.gone = self.left_behind = True
        self.abandon()

    def look_at_time(self, now: float) -> None:
        """Leaves it behind if its handler takes longer than it may; `now` is monotonic, s."""
        worker = self._worker
        if worker is None or self.gone:
            return
        timeout, account = self._subscription.options.timeout, worker.handling.account
        since, event = account.busy_since, worker.handling.event
        if timeout is None or since is None or now - since <= timeout:
            return
        what = f"the handler of {event.name}" if event is not None else "a handler"
        self._send(
            "timed_out",
            at=self.position,
            error=f"{what} took over {timeout:g} s",
            stack=stack_of(worker),
            account=counted(account),
        )
        self.leave_behind()

    def _tell_whereabouts(self) -> None:
        target = self._subscription.target
        if not isinstance(target, Subscriber):
            return
        try:
            found = dict(target.whereabouts())
        except Exception as error:
            self._say_whereabouts_failed(error)
            return
        if found != self._whereabouts:
            self._whereabouts = found
            self._send("whereabouts", found=found)

    def _secured(self, settled: int) -> int:
        """Up to where what was handled is on disk."""
        target = self._subscription.target
        safe_until_s: float | None = None
        if isinstance(target, Subscriber):
            # It may be closing what it would put on disk, which does so too.
            with contextlib.suppress(Exception):
                safe_until_s = target.secure()
        if safe_until_s is None:
            self._handled_at.clear()
            return settled
        if settled > self._settled or not self._handled_at:
            self._handled_at.append((time.monotonic(), settled))
        upto: int = self._done
        while self._handled_at and self._handled_at[0][0] <= safe_until_s:
            upto = self._handled_at.popleft()[1]
        return upto

    def _say_whereabouts_failed(self, error: Exception) -> None:
        if not self._whereabouts_failed:
            self._whereabouts_failed = True
            log.error(f"{self.name} cannot tell where it writes: {one_line(error)}")

    def look(self) -> None:
        """Tells the trainer what is new."""
        worker = self._worker
        if worker is None or self.gone:
            return
        if not self._said_ready and worker.ready.is_set():
            self._said_ready = True
            error = worker.error
            self._send("ready", error=one_line(error) if error is not None else None)
        finished = worker.finished.is_set()
        done = self._at + worker.mailbox.settled
        # Before it is told what was done, so that who waits for that knows them.
        self._tell_whereabouts()
        if done > self._done:
            upto = self._secured(done)
            self._settled = done
            if upto > self._done:
                self._done = upto
                self._send("done", upto=upto, account=counted(worker.handling.account))
        if finished:
            self.gone = True
            self._send("closed", account=counted(worker.handling.account))


def counted(account: Account) -> dict[str, Any]:
    """An account as the trainer is told of it."""
    told = {name: getattr(account, name) for name in COUNTED}
    told["dropped"] = dict(account.dropped)
    return told


def stack_of(worker: ThreadWorker) -> str:
    """Where a worker's thread stands."""
    frame = sys._current_frames().get(worker.stack_thread or 0)
    return "".join(traceback.format_stack(frame)) if frame is not None else ""


def _made(message: dict[str, Any]) -> Subscription:
    recipe = Recipe(*message["recipe"])
    options = {"delivery": "thread", "name": message["name"], **message["options"]}
    target = find(recipe.target)
    if recipe.arguments is None:
        chosen = Filter(when=find(recipe.when) if recipe.when is not None else None)
        kinds = [find(reference) for reference in recipe.events]
        return subscription_of_function(target, kinds, chosen, Options(**options))
    made = target(**recipe.arguments)
    if not isinstance(made, Subscriber):
        raise DeliveryError(f"{recipe.target} is no Subscriber class but {target!r}.")
    if message["whereabouts"]:
        made.learn_whereabouts(message["whereabouts"])
    return subscription_of_subscriber(made, options)
