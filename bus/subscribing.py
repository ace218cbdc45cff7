"""`bus.subscribe` in all its forms, typed so that a checker knows the handler's event."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, Protocol, TypedDict, TypeVar, Unpack, overload

from ..schemas import Event
from ..schemas import events as ev
from ..schemas.errors import ArgumentError, nearest
from ..schemas.event import event_class
from .filters import Filter
from .handler import name_of
from .mailbox import Overflow
from .preferred_place import subscription_in_its_place
from .subscriber import Subscriber, TrainerCallback
from .subscription import Options, Subscription, subscription_of_function

E = TypeVar("E", bound=Event)
E2 = TypeVar("E2", bound=Event)
S = TypeVar("S", bound=Subscriber)
R = TypeVar("R")


class Decorator(Protocol[E]):
    """What `subscribe` returns: give it a handler, it gives it back unchanged."""

    def __call__(self, handler: Callable[[E], R], /) -> Callable[[E], R]: ...


class SubscribeOptions(TypedDict, total=False):
    """The keyword arguments of `subscribe`; see there."""

    every: int | None
    once: bool | int
    after: int | None
    before: int | None
    interval_s: float | None
    when: Callable[[Any], object] | None
    run_id: str | Collection[str] | None
    delivery: Literal["loop", "thread", "process", "gate"] | None
    overflow: Overflow
    mailbox_size: int | None
    timeout: float | None
    retries: int
    quarantine_after: int
    critical: bool
    required: bool
    wait_for_values: bool
    name: str | None
    own: bool
    ranks: Literal["zero", "all"]
    arguments: Mapping[str, Any] | None


FILTERS = ("every", "once", "after", "before", "interval_s", "when", "run_id")


class Subscribing(ABC):
    """The part of the bus that takes subscriptions."""

    @overload
    def subscribe(
        self, event: Literal["init_end"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.InitEnd]: ...

    @overload
    def subscribe(
        self, event: Literal["train_begin"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.TrainBegin]: ...

    @overload
    def subscribe(
        self, event: Literal["train_end"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.TrainEnd]: ...

    @overload
    def subscribe(
        self, event: Literal["run_failed"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.RunFailed]: ...

    @overload
    def subscribe(
        self, event: Literal["epoch_begin"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.EpochBegin]: ...

    @overload
    def subscribe(
        self, event: Literal["epoch_end"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.EpochEnd]: ...

    @overload
    def subscribe(
        self, event: Literal["step_begin"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.StepBegin]: ...

    @overload
    def subscribe(
        self, event: Literal["substep_end"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.SubstepEnd]: ...

    @overload
    def subscribe(
        self, event: Literal["pre_optimizer_step"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.PreOptimizerStep]: ...

    @overload
    def subscribe(
        self, event: Literal["optimizer_step"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.OptimizerStep]: ...

    @overload
    def subscribe(
        self, event: Literal["step_end"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.StepEnd]: ...

    @overload
    def subscribe(
        self, event: Literal["log"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.Log]: ...

    @overload
    def subscribe(
        self, event: Literal["artifact"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.Artifact]: ...

    @overload
    def subscribe(
        self, event: Literal["evaluate"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.Evaluate]: ...

    @overload
    def subscribe(
        self, event: Literal["predict"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.Predict]: ...

    @overload
    def subscribe(
        self, event: Literal["prediction_step"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.PredictionStep]: ...

    @overload
    def subscribe(
        self, event: Literal["save"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.Save]: ...

    @overload
    def subscribe(
        self, event: Literal["push_begin"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.PushBegin]: ...

    @overload
    def subscribe(
        self, event: Literal["verdict"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.Verdict]: ...

    @overload
    def subscribe(
        self, event: Literal["subscriber_failed"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.SubscriberFailed]: ...

    @overload
    def subscribe(
        self, event: Literal["subscriber_behind"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.SubscriberBehind]: ...

    @overload
    def subscribe(
        self, event: Literal["stalled"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.Stalled]: ...

    @overload
    def subscribe(
        self, event: Literal["resumed"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.Resumed]: ...

    @overload
    def subscribe(
        self, event: Literal["batch_size_retry"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[ev.BatchSizeRetry]: ...

    @overload
    def subscribe(
        self, event: Literal["*"], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[Event]: ...

    @overload
    def subscribe(self, event: type[E], /, **options: Unpack[SubscribeOptions]) -> Decorator[E]: ...

    @overload
    def subscribe(
        self, event: type[E], other: type[E2], /, **options: Unpack[SubscribeOptions]
    ) -> Decorator[E | E2]: ...

    @overload
    def subscribe(self, subscriber: S, /, **options: Unpack[SubscribeOptions]) -> S: ...

    @overload
    def subscribe(self, subscriber: type[S], /, **options: Unpack[SubscribeOptions]) -> S: ...

    @overload
    def subscribe(
        self, *events: str | type[Event], **options: Unpack[SubscribeOptions]
    ) -> Decorator[Any]: ...

    def subscribe(self, *events: Any, **options: Any) -> Any:
        """Subscribes a function to events, or a `Subscriber` to all that it has methods for.

            @bus.subscribe("step_end", every=100)
            def on_step(event): ...

        Give an event's name, its class, several of them, or `"*"`. A class takes its subclasses
        too. A method is subscribed on its instance: `bus.subscribe("log")(probe.on_log)`. The
        decorator returns the function unchanged; `unsubscribe` undoes it.

        Filters (see `Filter` for what they count):
            every, once, after, before, interval_s, when, and run_id, which goes with a
            `Subscriber` too

        Options:
            delivery: where the handler runs. Async functions run on the event loop (`loop`),
                others in a thread of their own (`thread`). `process` runs in another process,
                which whatever burns Python time needs: functions at the top of a module, and
                `Subscriber` classes; trackers are there unless something speaks against it.
                `gate` runs on the training thread, before the votes are merged: exact, and the
                step waits for it.
            overflow, mailbox_size: what happens to events that come faster than they are handled;
                see `Mailbox`.
            timeout: seconds a handler may take. On the loop it is cancelled then; a thread cannot
                be, so its subscriber is given up and the thread left behind.
            retries: how often a failed call is made again, in place, with a growing delay.
            quarantine_after: failures in a row after which it gets no further events.
            critical: a failure stops the run, by a vote with the traceback as its reason.
            required: a failure of `open()` is an error before the first step.
            wait_for_values: for `gate`, wait for values that are still on the device, instead of
                None.
            name: who it is in votes and in the ledger.
            own: for `process`, a process of its own, not the one that subscribers share.
            ranks: where several processes train together (torchrun), whether it runs in the first
                alone, "zero", or in "all", each with the events of its own process.
            arguments: with a `Subscriber` class, the keyword arguments that make it; the instance
                is returned. For `process` they must be JSON.

        Raises:
            ArgumentError: unknown event or option, a wrong number of arguments, an async handler
                with `thread`, `process` or `gate`, a size or time that is not positive, or for
                `process` something that another process cannot import or make.
            BusClosedError: the bus is closed.
        """
        self._check_open()
        known = SubscribeOptions.__annotations__
        for name in options:
            if name not in known:
                raise ArgumentError(f"subscribe() has no option {name!r}: {nearest(name, known)}")
        if not events:
            raise ArgumentError("subscribe() needs an event: a name such as 'step_end', or '*'.")
        if len(events) == 1 and _is_subscriber(events[0]):
            return self._subscribe_subscriber(events[0], options)
        if options.pop("arguments", None) is not None:
            raise ArgumentError("arguments= is for a Subscriber class: bind a function's own.")
        kinds = [self._kind(event) for event in events]
        chosen = Filter(**{name: options.pop(name) for name in FILTERS if name in options})
        settings = Options(**options).checked()

        def decorate(handler: Any) -> Any:
            self._check_open()
            self._add(subscription_of_function(handler, kinds, chosen, settings))
            return handler

        return decorate

    def unsubscribe(self, subscriber: object) -> None:
        """Undoes `subscribe` for a function, a method or a `Subscriber`; its teardown runs.

        What is in its mailbox is still handled.

        Raises:
            ArgumentError: it is not subscribed.
        """
        if not self._remove(subscriber):
            raise ArgumentError(f"{subscriber!r} is not subscribed to this bus.")

    def _kind(self, event: Any) -> type[Event]:
        if isinstance(event, TrainerCallback) or (
            isinstance(event, type) and issubclass(event, TrainerCallback)
        ):
            raise ArgumentError(
                f"{name_of(event)} is a TrainerCallback, which is called on the training thread: "
                "give it to the run, callbacks=[...]."
            )
        if callable(event) and not isinstance(event, type):
            raise ArgumentError(
                f"subscribe() needs an event before the handler: bus.subscribe('step_end')("
                f"{name_of(event)})."
            )
        return Event if event == "*" else event_class(event)

    def _subscribe_subscriber(
        self, subscriber: Subscriber | type[Subscriber], options: dict[str, Any]
    ) -> Subscriber:
        run_id = options.pop("run_id", None)
        for name in FILTERS:
            if name in options:
                raise ArgumentError(
                    f"{name}= is for functions: mark the method instead, @on({name}=...)."
                )
        arguments = options.pop("arguments", None)
        if isinstance(subscriber, type) and (
            arguments is not None
            or options.get("delivery") == "process"
            or subscriber.prefers_process
        ):
            arguments = dict(arguments or {})
            subscriber = _made(subscriber, arguments)
        elif arguments is not None:
            raise ArgumentError(
                f"arguments= is for a class, and {subscriber!r} is made already: leave it out."
            )
        if isinstance(subscriber, type):
            raise ArgumentError(
                f"{subscriber.__name__} is a class: subscribe an instance, "
                f"{subscriber.__name__}(), or give arguments=."
            )
        subscription = subscription_in_its_place(subscriber, options, arguments, run_id)
        self._add(subscription)
        return subscription.target  # type: ignore[return-value]

    @abstractmethod
    def _add(self, subscription: Subscription) -> None:
        """Takes a subscription."""

    @abstractmethod
    def _remove(self, target: object) -> int:
        """Drops the subscriptions of a target and says how many there were."""

    @abstractmethod
    def _check_open(self) -> None:
        """Raises BusClosedError once the bus is closed."""


def _made(kind: type[S], arguments: dict[str, Any]) -> S:
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ArgumentError(
            f"{kind.__name__} cannot be made with arguments={arguments!r}: {error}."
        ) from error


def _is_subscriber(target: object) -> bool:
    return isinstance(target, Subscriber) or (
        isinstance(target, type) and issubclass(target, Subscriber)
    )
