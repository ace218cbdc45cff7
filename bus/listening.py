"""Which methods of a subscriber listen: by themselves, or to what its gate side hands on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..schemas import Event
from ..schemas.errors import ArgumentError
from ..schemas.event import event_class
from .filters import Filter
from .shapes import in_their_shape, is_in_both, own_method
from .subscriber import Subscriber, TrainerCallback, filter_of, overridden_hooks

Handlers = dict[type[Event], tuple[Callable[[Any], Any], Filter]]


def handlers_of(subscriber: Subscriber) -> Handlers:
    """The methods of a subscriber by the class of events that they take, with their filters.

    Those in Hugging Face's shape are left out: the gate calls them.

    Raises:
        ArgumentError: it has none in either shape.
    """
    found: Handlers = {}
    for name in dir(type(subscriber)):
        if not name.startswith("on_"):
            continue
        hook = getattr(subscriber, name)
        if isinstance(subscriber, TrainerCallback) and not _listens(name, hook):
            continue
        method = own_method(hook)
        bound = hook if method is None else method.__get__(subscriber)
        kind = Event if name == "on_event" else event_class(name.removeprefix("on_"))
        found[kind] = (bound, filter_of(hook))
    if not found and not overridden_hooks(subscriber):
        raise ArgumentError(
            f"{type(subscriber).__name__} has no method on_<event>, such as on_log(self, event): "
            "it would never be called."
        )
    return found


def handlers_of_handed_on(subscriber: Subscriber) -> Handlers:
    """The methods that get what `super().on_<event>(args, state, control, ...)` hands on.

    A method in Hugging Face's shape overrides each of them.
    """
    found: Handlers = {}
    for kind in overridden_hooks(subscriber):
        hooks = [vars(parent).get(f"on_{kind}") for parent in type(subscriber).__mro__]
        hook = next((hook for hook in hooks if own_method(hook) is not None), None)
        method = own_method(hook) or getattr(type(subscriber), "on_event", None)
        if method is not None:
            found[event_class(kind)] = (method.__get__(subscriber), filter_of(hook or method))
    return found


def _listens(name: str, hook: Any) -> bool:
    """Whether a method of one that is a `TrainerCallback` too takes events concurrently."""
    if is_in_both(hook):
        return own_method(hook) is not None
    known = name == "on_event" or name.removeprefix("on_") in Event.known_kinds
    return known and callable(hook) and not in_their_shape(hook)
