"""The two shapes of a method `on_<event>`: of one event, or of args, state and control."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

HANDLER = "__stepbus_handler__"
"""Where a method that can be called in both shapes keeps the one that takes the event."""
Method = Callable[..., Any]


def both_shapes(method: Method) -> Callable[..., Any]:
    """A method of one event that can be called in Hugging Face's shape as well.

    For the methods `on_<event>` of a `BuiltInCallback`, which applies it to all of its own: what
    writing it out adds is that type checkers let subclasses override the method in either shape.
    """
    return in_both_shapes(method.__name__.removeprefix("on_"), method)


def in_both_shapes(kind: str, method: Method | None) -> Callable[..., Any]:
    """The method by the kind of event that it is called for; None stands for no method."""

    def hook(self: Any, *args: Any, **keywords: Any) -> Any:
        if len(args) + len(keywords) == 1:
            return method(self, *args, **keywords) if method is not None else None
        return self._answer_call(kind, method, *args, **keywords)

    if method is not None:
        functools.update_wrapper(hook, method)
    hook.__name__ = f"on_{kind}"
    setattr(hook, HANDLER, method)
    return hook


def is_in_both(hook: object) -> bool:
    """Whether a method, bound or not, can be called in both shapes."""
    return hasattr(hook, HANDLER)


def own_method(hook: object) -> Method | None:
    """The method of one event behind one that can be called in both shapes."""
    method: Method | None = getattr(hook, HANDLER, None)
    return method


def in_their_shape(hook: Method) -> bool:
    """Whether a bound method can take `args, state, control`: Hugging Face's shape.

    `(*args, **kwargs)` can, so it is theirs.
    """
    try:
        parameters = inspect.signature(hook).parameters.values()
    except (TypeError, ValueError):
        return False
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (
        any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters)
        or sum(parameter.kind in by_position for parameter in parameters) >= 3
    )
