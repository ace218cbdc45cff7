"""How a mistake in the training arguments becomes one clear error."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .errors import ArgumentError, nearest

T = TypeVar("T")


class ArgumentsMeta(type):
    """Constructs arguments, and raises one `ArgumentError` for all that is wrong with them.

    A metaclass, since a subclass that is a plain dataclass gets a constructor of its own, which
    knows nothing of bounds, and may leave out `super().__post_init__()`.
    """

    def __call__(cls: type[T], *args: Any, **kwargs: Any) -> T:
        _refuse_unknown(cls, args, kwargs)
        try:
            arguments = super().__call__(*args, **kwargs)  # type: ignore[misc]
        except ValidationError as error:
            raise ArgumentError(explain(cls.__name__, error.errors())) from None
        arguments.validate()
        return arguments  # type: ignore[no-any-return]


def _refuse_unknown(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    known = _parameters(cls)
    if known is None:
        return
    unknown = [
        f"{cls.__name__} has no argument {name!r}: {nearest(name, known)}"
        for name in kwargs
        if name not in known
    ]
    if unknown:
        raise ArgumentError(" ".join(unknown))
    positional = [name for name, may_be_positional in known.items() if may_be_positional]
    if len(args) > len(positional):
        raise ArgumentError(
            f"{cls.__name__} got {len(args)} arguments without a name, but only "
            f"{', '.join(positional)} may stand without one: write name=value."
        )


def _parameters(cls: type) -> dict[str, bool] | None:
    """Names that the constructor takes, and whether without a name; None if it takes any."""
    own = getattr(cls, "__init__")  # noqa: B009 - mypy forbids the plain access
    parameters = list(inspect.signature(own).parameters.values())
    if parameters[0].name == "__dataclass_self__":  # pydantic's constructor says nothing more
        return {field.name: not field.kw_only for field in dataclasses.fields(cls) if field.init}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {
        parameter.name: parameter.kind is not parameter.KEYWORD_ONLY for parameter in parameters[1:]
    }


def explain(owner: str, problems: list[ErrorDetails]) -> str:
    """One sentence for each problem: the argument, its value, what is allowed."""
    sentences = []
    for problem in problems:
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, ArgumentError):
            sentences.append(str(cause))
            continue
        name = str(problem["loc"][0])
        if problem["type"] == "missing":
            sentences.append(f"{owner} needs the argument {name!r}.")
            continue
        said = re.sub(r"^Input should", "it should", problem["msg"])
        end = "" if said.endswith((".", "?")) else "."
        said = said[0].lower() + said[1:] + end
        sentences.append(f"{owner}.{name} is {_short(problem['input'])}: {said}")
    return " ".join(dict.fromkeys(sentences))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
