"""Delivery `gate`: handlers on the training thread, answered before the votes are merged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..schemas import Event, TrainerControl, Vote
from ..schemas.control import FLAG_OF
from ..schemas.errors import DeliveryError
from . import gate_call
from .deferred import fill, settled
from .emitter import Captured, Emitter, build
from .filters import Filter
from .handling import Handling, Services, one_line
from .ledger import Account, LedgerRow
from .subscriber import TrainerCallback, overridden_hooks
from .subscription import Options, Route, Subscription

_ANY = Filter()
_OPTIONS = Options(delivery="gate")
Guard = Callable[[], AbstractContextManager[object]]


class GateCallback:
    """A callback of Hugging Face's shape in its place in the chain, with its account."""

    def __init__(self, callback: TrainerCallback, services: Services) -> None:
        self.callback = callback
        self.hooks = {kind: getattr(callback, f"on_{kind}") for kind in overridden_hooks(callback)}
        self.guarded = not getattr(callback, "changes_nothing", False)
        # The failure policy is that of every subscriber; the route is only there for its shape.
        subscription = Subscription(callback, [Route(Event, _no_event, _ANY)], _OPTIONS)
        subscription.name = type(callback).__name__
        subscription.account = Account(subscription.name, "gate")
        self.subscription = subscription
        self.handling = Handling(subscription, services)

    @property
    def name(self) -> str:
        """Who it is in votes and in the ledger."""
        return self.subscription.name


class GateChain:
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
        self.control = control
        self._on_change = on_change
        self.callbacks: list[GateCallback] = []
        self.subscriptions: list[tuple[Subscription, Handling]] = []
        self.guard: Guard = contextlib.nullcontext
        self._services = services
        self._by_kind: dict[str, list[GateCallback]] = {}
        self._opened: dict[Subscription, Exception | None] = {}
        self.schedulers: frozenset[str] = frozenset()
        """Names of callbacks whose flags are the schedule rather than somebody's vote."""

    def add(self, callback: TrainerCallback) -> None:
        """Puts a callback at the end of the chain."""
        self.callbacks.append(GateCallback(callback, self._services))
        self._index()
        self._on_change()

    def remove(self, callback: TrainerCallback) -> None:
        """Takes a callback out of the chain."""
        self.callbacks = [entry for entry in self.callbacks if entry.callback is not callback]
        self._index()
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

    def _index(self) -> None:
        self._by_kind = {}
        for entry in self.callbacks:
            for kind in entry.hooks:
                self._by_kind.setdefault(kind, []).append(entry)
        self.schedulers = frozenset(
            entry.name for entry in self.callbacks if getattr(entry.callback, "is_schedule", False)
        )

    def listens(self, event_class: type[Event], kind: str) -> bool:
        """Whether anybody in the chain takes events of a kind."""
        return kind in self._by_kind or any(
            subscription.route(event_class) for subscription, _ in self.subscriptions
        )

    def call(
        self, emitter: Emitter, captured: Captured, context: Callable[[], dict[str, Any]]
    ) -> None:
        """Runs all that listen to the event."""
        kind = emitter.kind
        entries = self._by_kind.get(kind)
        if entries:
            self._call_callbacks(kind, entries, captured, context())
        if self.subscriptions:
            self._call_subscriptions(kind, emitter, captured)

    def _call_callbacks(
        self, kind: str, entries: list[GateCallback], captured: Captured, context: dict[str, Any]
    ) -> None:
        args, state = context.pop("args"), context.pop("state")
        values = captured.values
        for name in ("logs", "metrics"):
            if name in values and kind != "train_end":
                context[name] = self._awaited(values[name], captured, entries[0])
        if kind == "run_failed":
            context["error"] = captured.note
        outer = gate_call.enter(captured)
        try:
            for entry in entries:
                before = self.control.flags
                returned = self._call_one(entry, kind, captured, args, state, context)
                if returned is not None:
                    self.control.adopt(returned)
                if self.control.flags != before or self.control.asked_again:
                    self.control.credit(entry.name, before)
        finally:
            gate_call.leave(outer)

    def _awaited(
        self, values: dict[str, Any], captured: Captured, entry: GateCallback
    ) -> dict[str, Any]:
        if not captured.deferred:
            return dict(values)
        filled: dict[str, Any] = _wait(
            entry.handling.account, captured, lambda: fill(values, wait=True)[0]
        )
        return filled

    def _call_one(
        self,
        entry: GateCallback,
        kind: str,
        captured: Captured,
        args: Any,
        state: Any,
        context: dict[str, Any],
    ) -> Any:
        account = entry.handling.account
        if account.quarantined:
            account.drop("quarantine")
            return None
        started = time.perf_counter()
        try:
            with self.guard() if entry.guarded else contextlib.nullcontext():
                returned = entry.hooks[kind](args, state, self.control, **context)
        except Exception as error:
            account.handler_s += time.perf_counter() - started
            event = build(captured, -1, captured.emitter.link.wall_offset())
            entry.handling.failed(event, error, final=True)
            return None
        account.handler_s += time.perf_counter() - started
        account.handled += 1
        account.failures_in_a_row = 0
        return returned if all(hasattr(returned, flag) for flag in FLAG_OF.values()) else None

    def _call_subscriptions(self, kind: str, emitter: Emitter, captured: Captured) -> None:
        event: Event | None = None
        link = emitter.link
        for subscription, handling in self.subscriptions:
            route = subscription.route(emitter.event_class)
            if route is None or not subscription.takes(
                route, kind, captured.step, captured.epoch, link.key, captured.monotonic
            ):
                continue
            self._open(subscription, handling)
            if captured.deferred and subscription.options.wait_for_values:
                chosen = _wait(
                    subscription.account,
                    captured,
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

    def votes(self, step: int) -> list[tuple[Vote, bool]]:
        """What changed in the shared control, as votes of who set it; True for the schedule's.

        A flag that was cleared after it had become a vote takes that vote back.
        """
        found = []
        for action, setter in self.control.taken_back():
            vote = Vote(action, voter=setter, withdrawn=True)
            found.append((vote, setter in self.schedulers))
        for action, setter in list(self.control.standing()):
            vote = Vote(action, voter=setter, step=step, reason=self._reason_of(setter))
            found.append((vote, setter in self.schedulers))
            self.control.mark_cast(action, setter)
        return found

    def _reason_of(self, setter: str) -> str:
        """What a callback says of its vote: its attribute `reason`, where it has one."""
        for entry in self.callbacks:
            if entry.name == setter:
                reason = getattr(entry.callback, "reason", "")
                return reason if isinstance(reason, str) else ""
        return ""

    def ledger(self) -> list[LedgerRow]:
        """The accounts of the callbacks; those of the subscriptions are the bus's."""
        return [entry.handling.account.row() for entry in self.callbacks]


def _wait(account: Account, captured: Captured, value: Callable[[], Any]) -> Any:
    """A value that the training thread waits for, charged to who caused it."""
    num_pending = sum(not settled(handle) for handle in captured.deferred)
    if not num_pending:
        return value()
    started = time.perf_counter()
    result = value()
    account.waits += num_pending
    account.wait_s += time.perf_counter() - started
    return result


def _no_event(event: Event) -> None:
    """Stands where a subscription has its handler; callbacks are called by their hooks."""
