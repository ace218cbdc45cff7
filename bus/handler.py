"""What a handler is: a function of one event, sync or async, that may return votes, and what it
measured."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from ..schemas import Measured, Vote
from ..schemas.errors import ArgumentError

Handler = Callable[[Any], Any]


def check_handler(handler: object) -> Handler:
    """The handler, once it is known to take one event.

    Raises:
        ArgumentError: not callable, a class, or not callable with exactly one argument.
    """
    if not callable(handler) or inspect.isclass(handler):
        raise ArgumentError(
            f"{handler!r} is no handler: subscribe a function of one event, or an instance of a "
            "Subscriber."
        )
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return handler
    try:
        signature.bind(object())
    except TypeError:
        raise ArgumentError(
            f"{name_of(handler)}{signature} must take exactly one argument, the event."
            + (
                " A method is subscribed on its instance: bus.subscribe(...)(instance.method), or "
                "derive the class from Subscriber."
                if "self" in signature.parameters
                else ""
            )
        ) from None
    return handler


def is_async(handler: Handler) -> bool:
    """Whether calling the handler gives a coroutine."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        raise ArgumentError(
            f"{name_of(handler)} is a generator: a handler returns, it does not yield."
        )
    if inspect.iscoroutinefunction(handler):
        return True
    return inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def name_of(handler: object) -> str:
    """How a handler is called in messages and in the ledger."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    return str(name).rpartition("<locals>.")[2]


def answers_of(result: object, voter: str, step: int) -> tuple[list[Vote], list[Measured]]:
    """What a handler returned: votes, signed with its name and the step that it saw, and values.

    Raises:
        TypeError: the handler returned something else.
    """
    if result is None:
        return [], []
    returned = [result] if isinstance(result, Vote | Measured) else result
    if not isinstance(returned, Iterable) or isinstance(returned, str | bytes | dict):
        raise TypeError(
            f"{voter} returned {result!r}: return a Vote, several, None, or Measured({{...}})."
        )
    votes: list[Vote] = []
    measured: list[Measured] = []
    for vote in returned:
        if isinstance(vote, Measured):
            measured.append(vote)
            continue
        if not isinstance(vote, Vote):
            raise TypeError(f"{voter} returned {vote!r} among its votes: return Vote objects.")
        update: dict[str, Any] = {"voter": vote.voter or voter}
        if vote.step is None:
            update["step"] = step
        votes.append(vote.model_copy(update=update))
    return votes, measured
