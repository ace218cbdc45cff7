"""What may cross into another process: names that can be imported there, and plain arguments."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterable, Mapping
from types import MethodType
from typing import Any, NamedTuple

from ...schemas import Event
from ...schemas.errors import ArgumentError, DeliveryError
from ..filters import Filter
from ..handler import name_of
from ..subscriber import Subscriber, overridden_hooks

ADVICE = "or use delivery='thread'"


class Recipe(NamedTuple):
    """How a process makes a subscription again; all of it is plain JSON."""

    target: str
    """`module:qualname` of a function or of a `Subscriber` class."""
    arguments: dict[str, Any] | None = None
    """Keyword arguments of the class; None for a function."""
    events: tuple[str, ...] = ()
    """`module:qualname` of the classes of events that a function takes."""
    when: str | None = None
    """`module:qualname` of a function's predicate."""


def recipe_of_function(handler: object, kinds: Iterable[type[Event]], chosen: Filter) -> Recipe:
    """How a process finds a handler.

    Raises:
        ArgumentError: it, its predicate or its event cannot be imported there.
    """
    return Recipe(
        reference_to(handler),
        events=tuple(reference_to(kind) for kind in kinds),
        when=reference_to(chosen.when) if chosen.when is not None else None,
    )


def recipe_of_subscriber(
    subscriber: Subscriber, arguments: Mapping[str, Any] | None = None
) -> Recipe:
    """How a process makes another subscriber like this one.

    Args:
        subscriber: made in this process.
        arguments: what it was made with; by default it is asked.

    Raises:
        ArgumentError: its class cannot be imported there, it cannot say how it was made, or a
            method of it is called on the training thread.
    """
    kind = type(subscriber)
    hooks = sorted(overridden_hooks(subscriber))
    if hooks:
        raise ArgumentError(
            f"{kind.__name__}.on_{hooks[0]}(args, state, control) is called on the training "
            f"thread, and delivery='process' would split it in two: write it as "
            f"on_{hooks[0]}(self, event), {ADVICE}."
        )
    target = reference_to(kind)
    if arguments is None and _knows_its_constructor(kind):
        arguments = subscriber.made_with()
    if arguments is None:
        raise ArgumentError(
            f"{kind.__name__} is given as an instance, which cannot be handed to a process: "
            f"subscribe the class, bus.subscribe({kind.__name__}, arguments={{...}}, "
            f"delivery='process'), have its made_with() return its arguments, {ADVICE}."
        )
    return Recipe(target, arguments=plain_arguments(kind.__name__, arguments))


def _knows_its_constructor(kind: type[Subscriber]) -> bool:
    """Whether `made_with` was written for the constructor that the class has."""
    for parent in kind.__mro__:
        if "made_with" in vars(parent):
            return True
        if "__init__" in vars(parent):
            return False
    return False


def plain_arguments(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the arguments, once they are known to be JSON.

    Raises:
        ArgumentError: one of them is not.
    """
    for key, value in arguments.items():
        found = _not_json(value)
        if found is not None:
            raise ArgumentError(
                f"{name}: the argument {key!r} holds {found!r}, which is no JSON: give numbers, "
                f"text, lists and dicts with text as keys (of a path, str(path)), {ADVICE}."
            )
    return dict(arguments)


def _not_json(value: Any) -> object:
    """The first thing in a value that JSON does not give back as it was; None where all is well."""
    if value is None or type(value) in (bool, int, float, str):
        return None
    if type(value) is list:
        return next((found for item in value if (found := _not_json(item)) is not None), None)
    if type(value) is dict and all(type(key) is str for key in value):
        return _not_json(list(value.values()))
    return value


def reference_to(thing: Any) -> str:
    """`module:qualname` of a function or class that another process can import.

    Raises:
        ArgumentError: it cannot be found by a name, or only in `__main__`.
    """
    name, module, path = name_of(thing), thing_module(thing), getattr(thing, "__qualname__", "")
    if isinstance(thing, functools.partial):
        raise _refusal(name, "a functools.partial has no name to be imported by: define a function")
    if isinstance(thing, MethodType) and not isinstance(thing.__self__, type):
        raise _refusal(name, "it is a method of an instance: define a function, or a Subscriber")
    if "<lambda>" in path:
        raise _refusal("a lambda", "it has no name to be imported by: define a function")
    if "<locals>" in path:
        raise _refusal(name, "it is defined inside of a function: move it to the top of a module")
    if not module or not path:
        raise _refusal(name, "it has no name to be imported by: define a function in a module")
    if module == "__main__":
        raise _refusal(
            name,
            "it is defined in __main__ (the script, a notebook or -c), which another process "
            "does not import: move it to a module of its own, and import it from there",
        )
    if not _is_found(thing, module, path):
        raise _refusal(name, f"{module}.{path} is something else, or cannot be imported")
    return f"{module}:{path}"


def thing_module(thing: Any) -> str:
    """The name of the module that something is defined in; empty where it does not say."""
    return str(getattr(thing, "__module__", None) or "")


def _is_found(thing: object, module: str, path: str) -> bool:
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None)
    if spec is None:
        return False
    if getattr(spec, "_initializing", False):
        return True  # A decorator runs before the module has the name.
    try:
        return bool(_walk(loaded, path) == thing)
    except AttributeError:
        return False


def _refusal(name: str, why: str) -> ArgumentError:
    return ArgumentError(f"{name} cannot be handed to a process: {why}, {ADVICE}.")


def find(reference: str) -> Any:
    """What `reference_to` named, imported now.

    Raises:
        DeliveryError: it is not there.
    """
    module, _, path = reference.partition(":")
    try:
        return _walk(importlib.import_module(module), path)
    except (ImportError, AttributeError) as error:
        raise DeliveryError(
            f"{reference} cannot be imported in the subscribers' process ({error})."
        ) from error


def _walk(start: object, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), start)
