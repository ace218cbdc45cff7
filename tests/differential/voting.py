"""Callbacks that set, clear or replace flags at a given call of a hook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.differential.libraries import Library

Callbacks = Callable[[Library], list[Any]]


def voter(
    hook: str, flag: str, call: int = 1, *, value: bool = True, every: bool = False
) -> Callbacks:
    """A callback that gives a flag a value at the n-th call of a hook, or from then on."""

    def make(library: Library) -> list[Any]:
        seen = iter(range(1, 10_000))

        def method(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            now = next(seen)
            if now == call or (every and now > call):
                setattr(control, flag, value)

        return [type("Voter", (library.TrainerCallback,), {f"on_{hook}": method})()]

    return make


def returning(hook: str, call: int = 1, **flags: bool) -> Callbacks:
    """A callback that returns a control of its own at the n-th call of a hook."""

    def make(library: Library) -> list[Any]:
        seen = iter(range(1, 10_000))

        def method(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> Any:
            return library.TrainerControl(**flags) if next(seen) == call else control

        return [type("Returning", (library.TrainerCallback,), {f"on_{hook}": method})()]

    return make


def both(*parts: Callbacks) -> Callbacks:
    """Several, in this order."""
    return lambda library: [callback for part in parts for callback in part(library)]
