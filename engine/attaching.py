"""Who listens to a run without being asked: the schedule, the display, the trackers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from ..bus import EventBus, RunLink, Subscriber, TrainerCallback
from ..bus.diagnostics import get_logger
from ..bus.registry import Registry, describe, resolve_report_to
from ..schemas import TrainingArguments
from ..schemas.errors import ArgumentError

log = get_logger()

Callback = TrainerCallback | Subscriber


def as_instance(callback: Any) -> Callback:
    """A callback given as a class or as an instance.

    Raises:
        ArgumentError: neither a TrainerCallback's nor a Subscriber's shape.
    """
    instance = callback() if inspect.isclass(callback) else callback
    if isinstance(instance, TrainerCallback | Subscriber):
        return instance
    if any(name.startswith("on_") and callable(getattr(instance, name)) for name in dir(instance)):
        return instance  # type: ignore[no-any-return]  # Hugging Face's own classes have the shape.
    raise ArgumentError(
        f"{callback!r} is no callback: give a TrainerCallback or a Subscriber, as a class or an "
        "instance; a function goes to bus.subscribe(...)."
    )


class Attached:
    """What one run put on its bus, and takes off again."""

    def __init__(self, bus: EventBus, args: TrainingArguments) -> None:
        self._bus = bus
        self._args = args
        self._registry = Registry()
        self.gate: list[TrainerCallback] = []
        self.subscribers: list[Subscriber] = []
        self.trackers: list[str] = []

    def defaults(self, callbacks: Iterable[Any]) -> None:
        """Default flow, then the trackers of `report_to`, then the caller's own, then a display."""
        self.gate.append(self._registry.load("default_flow")())
        choices = resolve_report_to(self._args.report_to, self._registry)
        for choice in choices:
            if choice.attached:
                self._subscribe(self._registry.load(choice.name)(), required=choice.asked_for)
                self.trackers.append(choice.name)
        log.info(describe(choices))
        for callback in callbacks:
            self.add(callback)
        if not any(type(s).__name__ in ("ProgressCallback", "PrinterCallback") for s in self.subscribers):
            display = self._registry.load("printer" if self._args.disable_tqdm else "progress")()
            self._subscribe(display, required=False)

    def add(self, callback: Any) -> Callback:
        """Adds a callback: in the gate if of Hugging Face's shape, else as a subscriber."""
        instance = as_instance(callback)
        check = getattr(instance, "check", None)
        if callable(check):
            check(self._args)
        if isinstance(instance, Subscriber):
            self._subscribe(instance, required=True)
        else:
            self.gate.append(instance)
        return instance

    def _subscribe(self, subscriber: Subscriber, *, required: bool) -> None:
        if hasattr(subscriber, "ledger") and subscriber.ledger is None:
            subscriber.ledger = lambda: self._bus.ledger
        self._bus.subscribe(subscriber, required=required)
        self.subscribers.append(subscriber)

    def enter_gate(self, link: RunLink) -> None:
        """Puts the callbacks into the run's gate, in their order."""
        for callback in self.gate:
            link.gate.add(callback)
        self._bus.refresh(link)

    def state_dict(self) -> dict[str, Any]:
        """The state of all that have one, by class name and number."""
        return {
            name: holder.state_dict() for name, holder in self._holders() if holder.state_dict()
        }

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

    def detach(self) -> None:
        """Takes the run's own subscribers off the bus."""
        for subscriber in self.subscribers:
            self._bus.unsubscribe(subscriber)
        self.subscribers = []
