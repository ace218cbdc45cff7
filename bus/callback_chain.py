"""The callbacks of Hugging Face's shape: one after the other, on one shared control."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from ..schemas import Event, TrainerControl, Vote
from ..schemas.control import FLAG_OF
from . import gate_call
from .deferred import fill, settled
from .emitter import build
from .filters import Filter
from .gate_call import GateCall
from .handling import Handling, Services
from .idling import Idling, schedule_of
from .ledger import Account, LedgerRow
from .subscriber import Subscriber, TrainerCallback, overridden_hooks
from .subscription import Options, Route, Subscription

if TYPE_CHECKING:
    from .run_link import RunLink

_ANY = Filter()
_OPTIONS = Options(delivery="gate")
WITH_VALUES = {"log": "logs", "evaluate": "metrics", "predict": "metrics"}
"""Kinds whose values callbacks get, and by which keyword."""

Guard = Callable[[], AbstractContextManager[object]]
Hook = Callable[..., Any]


class GateCallback:
    """A callback of Hugging Face's shape in its place in the chain, with its account."""

    def __init__(self, callback: TrainerCallback, services: Services) -> None:
        self.callback = callback
        self.hooks = {kind: getattr(callback, f"on_{kind}") for kind in overridden_hooks(callback)}
        self.guarded = not getattr(callback, "changes_nothing", False)
        self.hands_on = isinstance(callback, Subscriber)
        """Whether it may hand an event on to a concurrent side of its own."""
        # The failure policy is that of every subscriber; the route is only there for its shape.
        subscription = Subscription(callback, [Route(Event, _no_event, _ANY)], _OPTIONS)
        subscription.name = type(callback).__name__
        self.account = subscription.account = Account(subscription.name, "gate")
        self.subscription = subscription
        self.handling = Handling(subscription, services)

    @property
    def name(self) -> str:
        """Who it is in votes and in the ledger."""
        return self.subscription.name


class CallbackChain:
    """The callbacks of one run, in their order."""

    def __init__(self, services: Services, control: TrainerControl) -> None:
        self.control = control
        self.callbacks: list[GateCallback] = []
        self.guard: Guard = contextlib.nullcontext
        self._services = services
        self._by_kind: dict[str, list[tuple[GateCallback, Hook]]] = {}
        self._handing_on: frozenset[str] = frozenset()
        self.schedulers: frozenset[str] = frozenset()
        """Names of callbacks whose flags are the schedule rather than somebody's vote."""
        self.idling = Idling()

    def add(self, callback: TrainerCallback) -> None:
        """Puts a callback at the end of the chain."""
        self.callbacks.append(GateCallback(callback, self._services))
        self._index()

    def remove(self, callback: TrainerCallback) -> None:
        """Takes a callback out of the chain; of one that is there twice, the first."""
        for place, entry in enumerate(self.callbacks):
            if entry.callback is callback:
                self.callbacks = self.callbacks[:place] + self.callbacks[place + 1 :]
                break
        self._index()

    def _index(self) -> None:
        by_kind: dict[str, list[tuple[GateCallback, Hook]]] = {}
        for entry in self.callbacks:
            for kind, hook in entry.hooks.items():
                by_kind.setdefault(kind, []).append((entry, hook))
        self._by_kind = by_kind
        self.idling = Idling()
        self.idling.schedule = schedule_of(
            [entry.callback for entry, _ in by_kind.get("step_end", ())]
        )
        self._handing_on = frozenset(
            kind for kind, found in by_kind.items() if any(entry.hands_on for entry, _ in found)
        )
        self.schedulers = frozenset(
            entry.name for entry in self.callbacks if getattr(entry.callback, "is_schedule", False)
        )

    def listens(self, kind: str) -> bool:
        """Whether any of them takes events of a kind."""
        return kind in self._by_kind

    def call(self, call: GateCall, link: RunLink) -> None:
        """Calls those that listen to the event."""
        kind = call.emitter.kind
        found = self._by_kind.get(kind)
        if not found:
            return
        keywords = link.context()
        args, state = keywords.pop("args"), keywords.pop("state")
        name = WITH_VALUES.get(kind)
        if name is not None:
            keywords[name] = self._awaited(call.values[name], call, found[0][0])
        elif kind == "run_failed":
            keywords["error"] = call.note
        if kind not in self._handing_on:
            self._call_all(found, call, args, state, keywords)
            return
        outer = gate_call.enter(call)
        try:
            self._call_all(found, call, args, state, keywords)
        finally:
            gate_call.leave(outer)

    def _call_all(
        self,
        found: list[tuple[GateCallback, Hook]],
        call: GateCall,
        args: Any,
        state: Any,
        keywords: dict[str, Any],
    ) -> None:
        control = self.control
        for entry, hook in found:
            account = entry.account
            if account.quarantined:
                account.drop("quarantine")
                continue
            before = control.flags
            returned = None
            started = time.perf_counter()
            try:
                if entry.guarded:
                    with self.guard():
                        returned = hook(args, state, control, **keywords)
                else:
                    returned = hook(args, state, control, **keywords)
            except Exception as error:
                account.handler_s += time.perf_counter() - started
                event = build(call.captured, -1, call.emitter.link.wall_offset())
                entry.handling.failed(event, error, final=True)
            else:
                account.handler_s += time.perf_counter() - started
                account.handled += 1
                account.failures_in_a_row = 0
            if returned is not None and returned is not control and _is_control(returned):
                control.adopt(returned)
            if control.flags != before or control.asked_again:
                control.credit(entry.name, before)

    def _awaited(
        self, values: dict[str, Any], call: GateCall, entry: GateCallback
    ) -> dict[str, Any]:
        if not call.deferred:
            return values
        filled: dict[str, Any] = wait_for(entry.account, call, lambda: fill(values, wait=True)[0])
        return filled

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
        """The accounts of the callbacks."""
        return [entry.account.row() for entry in self.callbacks]


def wait_for(account: Account, call: GateCall, value: Callable[[], Any]) -> Any:
    """A value that the training thread waits for, charged to who caused it."""
    num_pending = sum(not settled(handle) for handle in call.deferred)
    if not num_pending:
        return value()
    started = time.perf_counter()
    result = value()
    account.waits += num_pending
    account.wait_s += time.perf_counter() - started
    return result


def _is_control(returned: object) -> bool:
    return all(hasattr(returned, flag) for flag in FLAG_OF.values())


def _no_event(event: Event) -> None:
    """Stands where a subscription has its handler; callbacks are called by their hooks."""
