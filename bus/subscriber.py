"""Classes that listen: `Subscriber` concurrently, `TrainerCallback` on the training thread."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from ..schemas import Event, TrainerControl, TrainerState
from ..schemas.errors import ArgumentError, nearest
from ..schemas.event import event_class
from .filters import Filter
from .shapes import in_their_shape, is_in_both, own_method

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__stepbus_filter__"


def on(
    *,
    every: int | None = None,
    once: bool | int = False,
    after: int | None = None,
    before: int | None = None,
    interval_s: float | None = None,
    when: Callable[[Any], object] | None = None,
) -> Callable[[F], F]:
    """Filters for one `on_<event>` method of a `Subscriber`; the same words as `bus.subscribe`.

        class Probe(Subscriber):
            @on(every=100)
            def on_step_end(self, event: StepEnd) -> None: ...

    Raises:
        ArgumentError: as `bus.subscribe`.
    """
    chosen = Filter(
        every=every, once=once, after=after, before=before, interval_s=interval_s, when=when
    )

    def mark(method: F) -> F:
        for each in (method, own_method(method)):
            if each is not None:
                setattr(each, _MARK, chosen)
        return method

    return mark


class Subscriber:
    """A class that listens: one method `on_<event>(self, event)` for each kind it wants.

    `on_event` takes every kind that has no method of its own. All methods are sync, or all are
    async. They run one at a time, in order, in the subscriber's own thread (sync) or on the event
    loop (async), never on the training thread unless `delivery = "gate"`. A method may return a
    `Vote`, or several.

    The class attributes are the defaults of `bus.subscribe`'s arguments of the same names.
    """

    delivery: ClassVar[str | None] = None
    """thread, loop, process or gate; None: thread for sync methods, loop for async ones."""
    prefers_process: ClassVar[bool] = False
    """True where a run that it is given to serves it in another process, if it can be made there:
    it has a `made_with` and no hook that is called on the training thread."""
    overflow: ClassVar[str] = "spill"
    mailbox_size: ClassVar[int | None] = None
    timeout: ClassVar[float | None] = None
    retries: ClassVar[int] = 0
    quarantine_after: ClassVar[int] = 5
    critical: ClassVar[bool] = False
    ranks: ClassVar[str] = "zero"
    changes_nothing: ClassVar[bool] = False
    """True for gate subscribers that draw no random numbers: their state is then not guarded."""

    @property
    def subscriber_name(self) -> str:
        """Who it is in the ledger and in votes; the name of the class unless overridden."""
        return type(self).__name__

    def open(self) -> Any:
        """Set-up, called where the handlers run, before the first event. May be async."""

    def close(self) -> Any:
        """Teardown, called where the handlers run, after the last event. May be async."""

    def hurry(self) -> None:
        """Told, from another thread, that the time at the end is nearly over: a handler that works
        or waits for long should return, so that `close()` can still say what is left. Returns at
        once."""

    def made_with(self) -> Mapping[str, Any] | None:
        """The keyword arguments that make another one like it, for `delivery="process"`.

        None where it cannot be made again. A class without a constructor of its own needs none;
        one that has a constructor overrides this beside it. What is set on an instance later does
        not cross.
        """
        own = [name for name in vars(self) if not name.startswith("_stepbus_")]
        return {} if not own and type(self).__init__ is object.__init__ else None

    def why_here(self) -> str:
        """Why it had better work in this process though it `prefers_process`; empty where nothing
        speaks for it."""
        return ""

    def caught_up(self) -> float | None:
        """Hands on what its handlers have only collected.

        Called where the handlers of a subscriber in a thread or in another process run, once
        nothing more waits for them, also before `close()`: what came meanwhile makes one batch.
        What it raises is treated as if the handler of the newest event had raised it.

        Returns:
            After how many seconds to call it again if nothing comes; None where nothing is left.
        """
        return None

    def secure(self) -> float | None:
        """Puts on disk what has been handled.

        Called in another process before that is acknowledged, since what is acknowledged is not
        sent again when the process dies; not in the thread of the handlers, and as often as they
        have handled something. It does not wait.

        Returns:
            Until when, on `time.monotonic()`, what was handled is on disk: the rest is acknowledged
            later. None where all of it is.
        """
        return None

    def whereabouts(self) -> Mapping[str, str]:
        """Where it writes, as it is known by now: id, url and folder of its run, as far as it has
        them. Asked for again and again; cheap."""
        return {}

    def learn_whereabouts(self, found: Mapping[str, str]) -> None:
        """Takes the whereabouts of the one in another process that does this one's work, or, before
        `open()`, of one whose process has died and whose place this one takes."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint should keep of it; nothing by default."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for method, function in vars(cls).items():
            if not method.startswith("on_") or method == "on_event":
                continue
            if issubclass(cls, TrainerCallback) and not _takes_the_event(function):
                continue  # As in the reference: it may be anything.
            try:
                event_class(method.removeprefix("on_"))
            except ArgumentError:
                kinds = (f"on_{kind}" for kind in Event.known_kinds)
                raise ArgumentError(
                    f"{cls.__name__}.{method} is called by no event: {nearest(method, kinds)}"
                ) from None


def _takes_the_event(function: object) -> bool:
    return inspect.isfunction(function) and len(inspect.signature(function).parameters) == 2


class TrainerCallback:
    """Hugging Face's shape: `on_<event>(self, args, state, control, **kwargs)`.

    Called on the training thread (delivery `gate`) in the order in which they were added, with
    live references. Set a flag of `control`, or return a control, to ask for something; the last
    writer wins, and what stands acts at that very step. A hook that is inherited unchanged is not
    a listener and costs nothing. Keywords: `model, processing_class, optimizer, lr_scheduler,
    train_dataloader, eval_dataloader`, and `logs` (on_log) or `metrics` (on_evaluate, on_predict).
    """

    changes_nothing: ClassVar[bool] = False
    """True for callbacks that draw no random numbers: their state is then not guarded."""

    def on_init_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """The trainer has been set up."""

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Training starts."""

    def on_train_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Training ended as it should."""

    def on_epoch_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """An epoch starts."""

    def on_epoch_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """An epoch ended."""

    def on_step_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """The first micro-batch of a step was loaded."""

    def on_pre_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Gradients are complete and clipped."""

    def on_optimizer_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """The optimizer has stepped."""

    def on_substep_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """A micro-batch that does not close its step went backward."""

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """An optimizer step is done."""

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """An evaluation is done; keyword `metrics`."""

    def on_predict(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """A prediction is done; keyword `metrics`."""

    def on_save(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """A checkpoint was written."""

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Values were logged; keyword `logs`."""

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """A batch of an evaluation is done."""

    def on_push_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """An upload starts."""

    def on_run_failed(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """An exception left the loop; keyword `error`. Hugging Face has no such hook."""


def overridden_hooks(callback: object) -> frozenset[str]:
    """The kinds of event that a callback of Hugging Face's shape really listens to.

    Of one that is a `Subscriber` too, those whose method takes args, state and control.
    """
    kinds = []
    assigned = getattr(callback, "__dict__", {})
    for name in {*dir(type(callback)), *assigned}:
        kind = name.removeprefix("on_")
        if name == kind or kind not in Event.known_kinds:
            continue
        hook = assigned[name] if name in assigned else getattr(type(callback), name)
        base = getattr(TrainerCallback, name, None)
        inherited = getattr(hook, "__module__", "").startswith("transformers.trainer_callback")
        untouched = inherited and getattr(hook, "__qualname__", "").startswith("TrainerCallback.")
        if hook is base or untouched or is_in_both(hook):
            continue
        if not isinstance(callback, Subscriber) or in_their_shape(getattr(callback, name)):
            kinds.append(kind)
    return frozenset(kinds)


def filter_of(method: object) -> Filter:
    """The filter that `on` gave a method; one that takes everything where it gave none."""
    chosen: Filter | None = getattr(method, _MARK, None)
    return chosen or Filter()
