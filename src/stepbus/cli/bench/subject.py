"""Whom `stepbus bench` measures: a subscriber, a function or a callback, by `module:name`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, Literal

from ...bus import EventBus, Subscriber, TrainerCallback
from ...bus.subscriber import overridden_hooks
from ...schemas import Event
from ...schemas.errors import ArgumentError
from .forwarding import forwarding_to
from .naming import resolve

Kind = Literal["subscriber", "callback"]
Where = Literal["inline", "thread", "process"]
WHERE: tuple[Where, ...] = ("inline", "thread", "process")
"""Simplest first."""
NAME = "subject"
"""Its name in the ledger of a run that measures it."""


@dataclass(frozen=True)
class Subject:
    """What is measured, as plain values that reach another process."""

    target: str
    """`module:name`."""
    kind: Kind
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments, where the name is that of a class."""
    event: str = ""
    """Which event it takes, where it is a function."""

    def make(self) -> Any:
        """An instance, or the function.

        Raises:
            ArgumentError: there is no such thing, it is of the wrong kind, or cannot be made.
        """
        found = resolve(self.target)
        if inspect.isclass(found):
            found = self._instance(found)
        elif self.arguments:
            raise ArgumentError(f"{self.target} is no class: --kwargs are for a class.")
        self._check(found)
        return found

    def _instance(self, made_of: type[Any]) -> Any:
        try:
            return made_of(**self.arguments)
        except Exception as error:
            raise ArgumentError(
                f"{self.target} cannot be made with the arguments {self.arguments} "
                f"({type(error).__name__}: {error}): give them as --kwargs '{{\"name\": ...}}'."
            ) from error

    def _check(self, found: Any) -> None:
        subscribes = isinstance(found, Subscriber)
        if self.kind == "callback":
            if not overridden_hooks(found):
                why = "give it as --subscriber" if subscribes else "nothing would be called"
                raise ArgumentError(f"{self.target} overrides no hook of a callback: {why}.")
        elif isinstance(found, TrainerCallback) and not subscribes:
            raise ArgumentError(f"{self.target} is a TrainerCallback: give it as --callback.")
        elif subscribes and self.event:
            raise ArgumentError(f"{self.target} says itself what it takes: leave --event out.")
        elif not subscribes and not callable(found):
            raise ArgumentError(
                f"{self.target} is {found!r}: name a Subscriber, a TrainerCallback or a function."
            )
        elif not subscribes and not self.event:
            raise ArgumentError(
                f"{self.target} is a function: say what it takes, --event log or --event step_end."
            )

    def usual(self, made: Any) -> Where:
        """Where it runs if nobody says otherwise."""
        if self.kind == "callback" or getattr(made, "delivery", None) == "gate":
            return "inline"
        return "process" if getattr(made, "delivery", None) == "process" else "thread"

    def subscribe(self, bus: EventBus, where: Where) -> None:
        """Subscribes it to a bus. Inline callbacks are handed to the run instead.

        Raises:
            ArgumentError: the bus does not take it there.
        """
        made = self.make()
        delivery: Any = "gate" if where == "inline" else where
        if where == "thread" and _is_async(made):
            delivery = "loop"
        if self.event:
            bus.subscribe(self.event, delivery=delivery, name=NAME)(made)
            return
        found = forwarding_to(self.target) if self.kind == "callback" else resolve(self.target)
        arguments = self.arguments if inspect.isclass(found) else None
        bus.subscribe(found, arguments=arguments, delivery=delivery, name=NAME)


def refusals(subject: Subject) -> dict[Where, str]:
    """Where a bus does not take it, and what it says of that."""
    found: dict[Where, str] = {}
    for where in WHERE:
        if subject.kind == "callback" and where == "inline":
            continue
        try:
            subject.subscribe(EventBus(), where)
        except ArgumentError as error:
            found[where] = str(error)
    return found


def _is_async(made: Any) -> bool:
    if not isinstance(made, Subscriber):
        return inspect.iscoroutinefunction(made)
    kinds = (*Event.known_kinds, "event")
    return any(inspect.iscoroutinefunction(getattr(made, f"on_{kind}", None)) for kind in kinds)
