"""Who listens to a run or a Trainer: the schedule, the trackers, the caller's own, a display."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

from ..bus import EventBus, Ledger, RunLink, Subscriber, TrainerCallback
from ..bus.diagnostics import get_logger
from ..bus.registry import Registry, describe, resolve_report_to
from ..bus.subscriber import overridden_hooks
from ..schemas import TrainingArguments
from ..schemas.errors import ArgumentError
from ..schemas.strategies import HubStrategy
from .callback_states import export, load_states, save_states

log = get_logger()

Callback = TrainerCallback | Subscriber


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


class CallbackList:
    """The callbacks of one run, or of one Trainer and all of its runs, in their order.

    Default flow, then the trackers of `report_to`, then the caller's own, then a display. While a
    run is open, what is added or removed joins or leaves it.

    Args:
        at_end: whether one that pushes to the Hub at the end alone is of use: the Trainer's own
            `push_to_hub` is called for that.

    Raises:
        ArgumentError: a callback that is none, an unknown tracker.
        DeliveryError: a tracker that was named is broken.
    """

    def __init__(
        self, args: TrainingArguments, callbacks: Iterable[Any] = (), *, at_end: bool = True
    ) -> None:
        self._args = args
        self._registry = Registry()
        self._bus: EventBus | None = None
        self._link: RunLink | None = None
        self._depth = 0
        self._runs = {""}
        """Those that they are given the events of; and what is published outside of any."""
        self._subscribed: list[Subscriber] = []
        self._optional: list[Any] = []
        self.callbacks: list[Callback] = [self._registry.load("default_flow")()]
        """All of them; to be changed through `add`, `pop` and `remove`."""
        self.trackers: list[str] = []
        """Names of the trackers among them."""
        choices = resolve_report_to(args.report_to, self._registry)
        for choice in choices:
            if choice.attached:
                tracker = self.add(self._registry.load(choice.name))
                self.trackers.append(choice.name)
                if not choice.asked_for:
                    self._optional.append(tracker)
        for callback in callbacks:
            self.add(callback)
        if args.push_to_hub and (at_end or args.hub_strategy != HubStrategy.END):
            hub = self._registry.load("hub")
            if not any(isinstance(callback, hub) for callback in self.callbacks):
                self.add(hub.for_arguments(args))
        self.reporting = describe(choices) if choices else ""
        """What reports, and why the other trackers do not; empty where none was considered."""

    def add_display(self) -> None:
        """Adds a progress line or a printer, unless there is one."""
        displays = tuple(self._registry.load(name) for name in ("progress", "printer"))
        if not any(isinstance(callback, displays) for callback in self.callbacks):
            self._optional.append(self.add(displays[bool(self._args.disable_tqdm)]))

    def add(self, callback: Any) -> Callback:
        """Adds a callback at the end.

        Raises:
            ArgumentError: it is none.
        """
        instance = as_instance(callback)
        kind = type(instance)
        if any(type(other) is kind for other in self.callbacks):
            names = ", ".join(type(other).__name__ for other in self.callbacks)
            log.warning(
                f"a {kind.__name__} is added where there is one already; the callbacks are: {names}"
            )
        if isinstance(instance, Subscriber) and any(instance is other for other in self.callbacks):
            raise ArgumentError(
                f"This {kind.__name__} is among the callbacks already, and a subscriber has one "
                "mailbox: make another instance."
            )
        self.callbacks.append(instance)
        if self._bus is not None:
            self._subscribe(instance, self._bus)
        if self._link is not None and _is_called_in_gate(instance):
            self._link.gate.add(instance)
        return instance

    def pop(self, callback: Any) -> Callback | None:
        """Removes and returns the first of a class, or the one that equals an instance; or None."""
        for other in self.callbacks:
            if isinstance(other, callback) if inspect.isclass(callback) else other == callback:
                self._drop(other)
                return other
        return None

    def remove(self, callback: Any) -> None:
        """Removes the first of a class, if there is one, or an instance.

        Raises:
            ArgumentError: an instance that is not among the callbacks.
        """
        if self.pop(callback) is None and not inspect.isclass(callback):
            names = ", ".join(type(other).__name__ for other in self.callbacks)
            raise ArgumentError(f"{callback!r} is not among the callbacks, which are: {names}.")

    def check(self) -> None:
        """Asks all that can tell whether they fit the arguments.

        Raises:
            ArgumentError: one does not.
        """
        for callback in self.callbacks:
            check = getattr(callback, "check", None)
            if callable(check):
                check(self._args)

    @property
    def watched(self) -> str:
        """What they want histograms of: gradients, parameters, all, or nothing.

        One says by an attribute `watches` that it wants them.
        """
        wanted = {str(getattr(callback, "watches", "")) for callback in self.callbacks} - {""}
        return next(iter(wanted)) if len(wanted) == 1 else "all" if wanted else ""

    @property
    def wants_architecture(self) -> bool:
        """Whether one says, by an attribute of that name, that it wants the model as text."""
        return any(getattr(callback, "wants_architecture", False) for callback in self.callbacks)

    @property
    def pushes_to(self) -> str:
        """The repository on the Hub that each save is pushed to; empty where none is.

        One says by an attribute `pushes_to` that it pushes.
        """
        found = (str(getattr(callback, "pushes_to", "")) for callback in self.callbacks)
        return next((repository for repository in found if repository), "")

    def subscribe(self, bus: EventBus, *, trains: bool = True) -> None:
        """Subscribes all that listen concurrently; nested calls count.

        Args:
            trains: False for a session of evaluations and logs, of which those who say so by an
                attribute `only_trains` hear nothing.
        """
        self._depth += 1
        if self._depth == 1:
            self._bus = bus
            for callback in self.callbacks:
                if trains or not getattr(callback, "only_trains", False):
                    self._subscribe(callback, bus)

    def serve(self, run_id: str) -> None:
        """Has those that listen concurrently get the events of a run; of others they get none."""
        self._runs.add(run_id)

    def enter_gate(self, link: RunLink) -> None:
        """Puts those that are called on the training thread into the run's gate, in their order."""
        self._link = link
        for callback in self.in_gate:
            link.gate.add(callback)

    @property
    def in_gate(self) -> list[TrainerCallback]:
        """Those that are called on the training thread, in their order."""
        return [callback for callback in self.callbacks if _is_called_in_gate(callback)]

    def unsubscribe(self) -> None:
        """Lets go of the run, and takes all of them off the bus when the outermost call ends."""
        self._link = None
        self._depth = max(0, self._depth - 1)
        if self._depth:
            return
        bus, self._bus = self._bus, None
        while self._subscribed:
            subscriber = self._subscribed.pop()
            if bus is not None:
                bus.unsubscribe(subscriber)

    def state_dict(self) -> dict[str, Any]:
        """The state of all that have one, by class name and number."""
        return save_states(self.callbacks)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Gives each its state back; one that the checkpoint does not know keeps its own."""
        load_states(self.callbacks, state)

    def export(self) -> dict[str, Any]:
        """The states for `trainer_state.json`, in the reference's form."""
        control = [self._link.control] if self._link is not None else []
        return export([*self.callbacks, *control])

    def _drop(self, callback: Callback) -> None:
        del self.callbacks[next(i for i, c in enumerate(self.callbacks) if c is callback)]
        if self._link is not None:
            self._link.gate.remove(callback)  # type: ignore[arg-type]
        if self._bus is not None and any(callback is other for other in self._subscribed):
            self._subscribed = [other for other in self._subscribed if other is not callback]
            self._bus.unsubscribe(callback)

    def _subscribe(self, callback: Callback, bus: EventBus) -> None:
        if isinstance(callback, Subscriber):
            _give_ledger(callback, lambda: bus.ledger)
            required = not any(callback is other for other in self._optional)
            bus.subscribe(callback, required=required, run_id=self._runs)
            self._subscribed.append(callback)

    def whereabouts(self, name: str) -> dict[str, str]:
        """Where a tracker among them writes.

        Raises:
            ArgumentError: there is none of that name.
        """
        names = []
        for callback in self.callbacks:
            tracker = getattr(callback, "tracker_name", "")
            if tracker == name and isinstance(callback, Subscriber):
                return dict(callback.whereabouts())
            names += [tracker] if tracker else []
        raise ArgumentError(
            f"There is no tracker {name!r} in this run: "
            + (f"there are {', '.join(names)}." if names else "it has none; see report_to.")
        )


def _is_called_in_gate(callback: Callback) -> TypeGuard[TrainerCallback]:
    """Whether it has Hugging Face's shape, or a hook of that shape that somebody overrode."""
    if not isinstance(callback, Subscriber):
        return True
    return isinstance(callback, TrainerCallback) and bool(overridden_hooks(callback))


def _give_ledger(subscriber: Any, ledger: Callable[[], Ledger]) -> None:
    """A display names subscribers that lag: it says by an attribute `ledger` that it wants to."""
    if hasattr(subscriber, "ledger") and subscriber.ledger is None:
        subscriber.ledger = ledger
