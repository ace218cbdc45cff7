"""What a subclass of the Trainer may override, and how its methods are called."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any

from ...schemas.errors import ArgumentError
from ...schemas.trainer_names import (
    ATTRIBUTES,
    FORMER_METHODS,
    OVERRIDABLE,
    REFERENCE_METHODS,
    UNSUPPORTED_ATTRIBUTES,
    instead_of_method,
)

NEVER_CALLED = frozenset({"log_file", "log_histogram", "log_image", "log_table", "log_text"})
"""Methods for users alone, so that one of the same name in a subclass takes nothing away."""


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
            if _is_method(value) and name in known and name not in OVERRIDABLE:
                refused.append(f"{parent.__name__}.{name}: {instead_of_method(name)}")
    if refused:
        raise ArgumentError(
            f"{trainer_class.__name__} overrides what stepbus's Trainer never calls: "
            f"{'; '.join(refused)}."
        )


def refuse_taken_names(
    trainer: object, own_classes: tuple[type, ...], given_before: frozenset[str]
) -> None:
    """Refuses a subclass with methods under names that the Trainer uses for itself.

    Args:
        trainer: with all of its attributes.
        own_classes: those of stepbus itself.
        given_before: attributes that the subclass had set before.

    Raises:
        ArgumentError: it has some, each by name.
    """
    own = set(vars(trainer)) - given_before
    for parent in own_classes:
        own.update(vars(parent), inspect.get_annotations(parent))
    own -= REFERENCE_METHODS | FORMER_METHODS.keys() | ATTRIBUTES | NEVER_CALLED
    taken = [
        f"{parent.__name__}.{name}"
        for parent in type(trainer).__mro__
        if parent not in own_classes
        for name, value in vars(parent).items()
        if name in own and not name.startswith("__") and _is_method(value)
    ]
    if taken:
        raise ArgumentError(
            f"stepbus's Trainer uses these names for itself: rename {', '.join(taken)}."
        )


def _is_method(value: object) -> bool:
    return callable(value) or isinstance(value, property | staticmethod | classmethod)


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
    if function not in _known:
        _known[function] = _arguments_without_items(method, name)
    most = _known[function]
    if most is None:
        return method

    def called_without(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("num_items_in_batch", None)
        return method(*args[:most], **kwargs)

    return called_without


def _arguments_without_items(method: Callable[..., Any], name: str) -> int | None:
    """How many arguments a method takes that does not take the items; None for one that does."""
    parameters = inspect.signature(method).parameters
    takes_any = any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values())
    takes_items = "num_items_in_batch" in parameters or len(parameters) >= _ALL[name]
    return None if takes_any or takes_items else len(parameters)


_known: MutableMapping[Callable[..., Any], int | None] = weakref.WeakKeyDictionary()
"""What the methods take that have been called; a trainer that is let go of is not kept by it."""
_ALL = {"compute_loss": 4, "training_step": 3}


def missing(name: str) -> AttributeError:
    """The error for an attribute or method that the reference has and stepbus has not."""
    reason = UNSUPPORTED_ATTRIBUTES.get(name)
    if reason is None and name in REFERENCE_METHODS:
        reason = instead_of_method(name)
    if reason is None:
        return AttributeError(f"Trainer has no attribute {name!r}.")
    return AttributeError(f"stepbus's Trainer has no {name}: {reason}.")
