"""How a mistake in the training arguments becomes one clear error."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from .argument_names import KEPT, REFUSED
from .errors import ArgumentError, nearest
from .former_names import modernise

T = TypeVar("T")


class ArgumentsMeta(type):
    """Constructs arguments, and raises one `ArgumentError` for all that is wrong with them.

    A metaclass, since a subclass that is a plain dataclass gets a constructor of its own, which
    knows nothing of bounds or former names, and may leave out `super().__post_init__()`.
    """

    def __init__(cls, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Pinned, or a subclass that is a dataclass would get one that shows tokens.
        type.__setattr__(cls, "__repr__", cls.__repr__)
        _restore_annotations(cls)

    def __call__(cls: type[T], *args: Any, **kwargs: Any) -> T:
        known, takes_any = _parameters(cls)
        kwargs, problems = modernise(cls, kwargs, known)
        if not takes_any:
            problems += _unknown(cls, args, kwargs, known)
        if problems:
            raise ArgumentError(" ".join(problems))
        try:
            arguments = super().__call__(*args, **kwargs)  # type: ignore[misc]
        except ValidationError as error:
            raise ArgumentError(explain(cls.__name__, error.errors())) from None
        arguments.validate()
        return arguments  # type: ignore[no-any-return]


def add_help(cls: type[Any], otherwise: Mapping[str, str]) -> None:
    """Gives each field its docstring as the help text that transformers' parser shows.

    Args:
        otherwise: help texts of fields that have no docstring.
    """
    described: Any = getattr(cls, "__pydantic_fields__")  # noqa: B009 - mypy forbids it
    for field in dataclasses.fields(cls):
        text = described[field.name].description or otherwise[field.name]
        field.metadata = MappingProxyType({**field.metadata, "help": text.replace("%", "%%")})


def _restore_annotations(cls: type) -> None:
    """Gives inherited fields back the types that they were declared with.

    transformers' parser of command lines narrows them in place, and pydantic reads them when it
    makes a subclass.
    """
    for base in cls.__mro__[1:]:
        fields = base.__dict__.get("__dataclass_fields__", {})
        for name, declared in inspect.get_annotations(base).items():
            if name in fields:
                fields[name].type = declared


def _unknown(
    cls: type, args: tuple[Any, ...], kwargs: dict[str, Any], known: dict[str, bool]
) -> list[str]:
    problems = [
        f"{cls.__name__} has no argument {name!r}: {_nearest(name, known.keys())}"
        for name in kwargs
        if name not in known
    ]
    positional = [name for name, may_be_positional in known.items() if may_be_positional]
    if len(args) > len(positional):
        problems.append(
            f"{cls.__name__} got {len(args)} arguments without a name, but only "
            f"{', '.join(positional)} may stand without one: write name=value."
        )
    return problems


def _nearest(name: str, known: AbstractSet[str]) -> str:
    """Whole words of a longer name come before a name that is merely spelled alike."""
    of_use = sorted(known - REFUSED.keys() - KEPT)
    longer = [candidate for candidate in of_use if candidate.endswith(f"_{name}")][:3]
    if longer:
        return f"did you mean {' or '.join(map(repr, longer))}?"
    for names in (of_use, sorted(known)):
        hint = nearest(name, names)
        if hint.startswith("did"):
            return hint
    return "no name is like it; the names are those of transformers 5."


def _parameters(cls: type) -> tuple[dict[str, bool], bool]:
    """Names that the constructor takes, whether without a name; and if it takes any other."""
    own = getattr(cls, "__init__")  # noqa: B009 - mypy forbids the plain access
    parameters = list(inspect.signature(own).parameters.values())
    if parameters[0].name == "__dataclass_self__":  # pydantic's constructor says nothing more
        fields = dataclasses.fields(cls)
        return {field.name: not field.kw_only for field in fields if field.init}, False
    named = {
        parameter.name: parameter.kind is not parameter.KEYWORD_ONLY
        for parameter in parameters[1:]
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    return named, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


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
        value = f"<{name.upper()}>" if name.endswith("_token") else _short(problem["input"])
        sentences.append(f"{owner}.{name} is {value}: {said}")
    return " ".join(dict.fromkeys(sentences))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
