"""Who listens to a run without being asked: the schedule, the display, the trackers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from ..bus import EventBus, LedgerRow, RunLink, Subscriber, TrainerCallback
from ..bus.diagnostics import get_logger
from ..bus.registry import Registry, describe, resolve_report_to
from ..schemas import TrainingArguments
from ..schemas.errors import ArgumentError

log = get_logger()

Callback = TrainerCallback | Subscriber
TRIES = 5
"""How often the state of a subscriber that is at work is asked for."""


def as_instance(callback: Any) -> Callback:
    """A callback given as a class or as an instance.

    Raises:
        ArgumentError: neither a TrainerCallback's nor a Subscriber's shape.
    """
    if inspect.isclass(callback):
        try:
            callback = callback()
        except TypeError as error:
            raise ArgumentError(
                f"{callback.__name__} was given as a class and cannot be made without arguments "
                f"({error}): give an instance."
            ) from error
    if isinstance(callback, TrainerCallback | Subscriber):
        return callback
    hooks = [name for name in dir(type(callback)) if name.startswith("on_")]
    if any(callable(getattr(callback, name)) for name in hooks):
        return callback  # type: ignore[no-any-return]  # Hugging Face's own classes have the shape.
    raise ArgumentError(
        f"{callback!r} is no callback: give a TrainerCallback or a Subscriber, as a class or an "
        "instance; a function goes to bus.subscribe(...)."
    )


class Attached:
    """What one run puts on its bus, and takes off again.

    Default flow, then the trackers of `report_to`, then the caller's own, then a display.

    Raises:
        ArgumentError: a callback that is none or does not fit the arguments, an unknown tracker.
        DeliveryError: a tracker that was named is broken.
    """

    def __init__(self, args: TrainingArguments, callbacks: Iterable[Any]) -> None:
        self._args = args
        self._registry = Registry()
        self._subscribed: list[Subscriber] = []
        self._optional: list[Subscriber] = []
        self.gate: list[TrainerCallback] = [self._registry.load("default_flow")()]
        self.subscribers: list[Subscriber] = []
        self.trackers: list[str] = []
        choices = resolve_report_to(args.report_to, self._registry)
        for choice in choices:
            if choice.attached:
                tracker = self.add(self._registry.load(choice.name))
                self.trackers.append(choice.name)
                if not choice.asked_for:
                    self._optional.append(tracker)  # type: ignore[arg-type]  # a Subscriber
        for callback in callbacks:
            self.add(callback)
        log.info(describe(choices))

    def add(self, callback: Any) -> Callback:
        """Adds a callback: in the gate if of Hugging Face's shape, else as a subscriber."""
        instance = as_instance(callback)
        check = getattr(instance, "check", None)
        if callable(check):
            check(self._args)
        (self.subscribers if isinstance(instance, Subscriber) else self.gate).append(instance)  # type: ignore[arg-type]
        return instance

    def subscribe(self, bus: EventBus) -> None:
        """Subscribes all that listen concurrently."""
        displays = tuple(self._registry.load(name) for name in ("progress", "printer"))
        if not any(isinstance(subscriber, displays) for subscriber in self.subscribers):
            display = displays[bool(self._args.disable_tqdm)]()
            self.subscribers.append(display)
            self._optional.append(display)
        for subscriber in self.subscribers:
            _give_ledger(subscriber, lambda: bus.ledger)
            required = not any(subscriber is other for other in self._optional)
            bus.subscribe(subscriber, required=required)
            self._subscribed.append(subscriber)

    def enter_gate(self, link: RunLink) -> None:
        """Puts the callbacks into the run's gate, in their order."""
        for callback in self.gate:
            link.gate.add(callback)

    def unsubscribe(self, bus: EventBus) -> None:
        """Takes the run's own subscribers off the bus."""
        while self._subscribed:
            bus.unsubscribe(self._subscribed.pop())

    def state_dict(self) -> dict[str, Any]:
        """The state of all that have one, by class name and number.

        Gate callbacks are as they are after this step. A concurrent subscriber is asked while it
        may be at work: its state is that of some event up to this step.
        """
        states = {}
        for name, holder in self._holders():
            state = holder.state_dict() if holder in self.gate else _state_at_work(name, holder)
            if state:
                states[name] = state
        return states

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Gives each its state back; one that the checkpoint does not know keeps its own."""
        for name, holder in self._holders():
            if name in state:
                holder.load_state_dict(state[name])

    def _holders(self) -> list[tuple[str, Any]]:
        counts: dict[str, int] = {}
        found = []
        for holder in (*self.gate, *self.subscribers):
            if hasattr(holder, "state_dict") and hasattr(holder, "load_state_dict"):
                kind = type(holder).__name__
                counts[kind] = counts.get(kind, 0) + 1
                found.append((f"{kind}/{counts[kind]}", holder))
        return found


def _give_ledger(subscriber: Any, ledger: Callable[[], list[LedgerRow]]) -> None:
    """A display names subscribers that lag: it says by an attribute `ledger` that it wants to."""
    if hasattr(subscriber, "ledger") and subscriber.ledger is None:
        subscriber.ledger = ledger


def _state_at_work(name: str, holder: Subscriber) -> dict[str, Any]:
    for left in reversed(range(TRIES)):
        try:
            return copy.deepcopy(holder.state_dict())
        except RuntimeError as error:  # A collection that changed while it was gone through.
            if not left:
                log.warning(f"the state of {name} could not be read and is not saved: {error}")
    return {}
