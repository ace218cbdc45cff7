"""What a subclass of the Trainer may override, and how its methods are called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from ...schemas.errors import ArgumentError
from ...schemas.trainer_names import (
    FORMER_METHODS,
    OVERRIDABLE,
    REFERENCE_METHODS,
    UNSUPPORTED_ATTRIBUTES,
    instead_of_method,
)


def refuse_overrides(trainer_class: type, own_classes: tuple[type, ...]) -> None:
    """Refuses a subclass with methods of the reference that would never be called here.

    Args:
        trainer_class: the class of the trainer at hand.
        own_classes: those of stepbus itself.

    Raises:
        ArgumentError: it overrides some, each by name.
    """
    known = REFERENCE_METHODS | FORMER_METHODS.keys()
    refused = []
    for parent in trainer_class.__mro__:
        if parent in own_classes:
            continue
        for name, value in vars(parent).items():
            method = callable(value) or isinstance(value, property | staticmethod | classmethod)
            if method and name in known and name not in OVERRIDABLE:
                refused.append(f"{parent.__name__}.{name}: {instead_of_method(name)}")
    if refused:
        raise ArgumentError(
            f"{trainer_class.__name__} overrides what stepbus's Trainer never calls: "
            f"{'; '.join(refused)}."
        )


def is_overridden(trainer: object, own_class: type, name: str) -> bool:
    """Whether a subclass brought a method of its own, or an instance was given one."""
    if name in vars(trainer):
        return True
    return getattr(type(trainer), name) is not getattr(own_class, name)


def without_items(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A method as it is called here, also where it does not take `num_items_in_batch`.

    Overrides written before that argument came keep working.

    Args:
        method: as it is now: an instance may have been given one of its own.
        name: `compute_loss` or `training_step`.
    """
    function = getattr(method, "__func__", method)
    most = _arguments_without_items(function, name, is_bound=function is not method)
    if most is None:
        return method

    def called_without(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("num_items_in_batch", None)
        return method(*args[:most], **kwargs)

    return called_without


@functools.lru_cache(maxsize=64)
def _arguments_without_items(
    function: Callable[..., Any], name: str, *, is_bound: bool
) -> int | None:
    """How many arguments a function takes that does not take the items; None for one that does."""
    parameters = list(inspect.signature(function).parameters.values())[is_bound:]
    takes_any = any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    named = any(p.name == "num_items_in_batch" for p in parameters)
    return None if takes_any or named or len(parameters) >= _ALL[name] else len(parameters)


_ALL = {"compute_loss": 4, "training_step": 3}


def missing(name: str) -> AttributeError:
    """The error for an attribute or method that the reference has and stepbus has not."""
    reason = UNSUPPORTED_ATTRIBUTES.get(name)
    if reason is None and name in REFERENCE_METHODS:
        reason = instead_of_method(name)
    if reason is None:
        return AttributeError(f"Trainer has no attribute {name!r}.")
    return AttributeError(f"stepbus's Trainer has no {name}: {reason}.")
