"""How arguments are set after construction: checked one by one, those of a subclass too."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from .arguments_meta import explain
from .errors import ArgumentError


class Assignments:
    """How often arguments have been assigned, of whichever object: who goes by some of them at each
    step sees by one number that they are what they were."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


ASSIGNMENTS = Assignments()


class CheckedArguments:
    """Assignment with checks, for a dataclass and whatever inherits from it."""

    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        ASSIGNMENTS.count += 1

    checks: ClassVar[type[BaseModel]]
    """The kinds of the dataclass's fields, from `checks_of`."""

    def assign(self, **values: Any) -> Self:
        """Sets arguments by name, checked one by one; none is set if one is wrong.

        Raises:
            ArgumentError: values out of bounds.
        """
        checked = self.checks.model_construct()
        problems = []
        for name, value in values.items():
            try:
                setattr(checked, name, value)
            except ValidationError as error:
                problems += error.errors()
        if problems:
            raise ArgumentError(explain(type(self).__name__, problems))
        for name in values:
            setattr(self, name, getattr(checked, name))
        return self

    def assign_again(self) -> None:
        """Checks and normalises what the arguments are now.

        Raises:
            ArgumentError: values out of bounds.
        """
        self.assign(**{name: getattr(self, name) for name in self.checks.model_fields})


def checks_of(cls: type[Any]) -> type[BaseModel]:
    """The fields of a dataclass once more, as a model that checks each assignment.

    The dataclass's own validator cannot: it reads every field whenever one is assigned, and
    refuses an object of a subclass.
    """
    kinds = get_type_hints(cls, include_extras=True)
    fields: dict[str, Any] = {
        field.name: (kinds[field.name], None) for field in dataclasses.fields(cls)
    }
    config = ConfigDict(validate_assignment=True)
    checks: type[BaseModel] = create_model(cls.__name__, __config__=config, **fields)
    return checks
