"""What a handler measured, for the next log of the run."""

from typing import Any

from pydantic import BaseModel, ValidationError

from .errors import ArgumentError
from .values import FROZEN, Scalars


class Measured(BaseModel):
    """Values for the run's next `Log`, given by returning them from a handler.

        @bus.subscribe("epoch_end", delivery="process")
        def weigh(event):
            return Measured({"energy_kwh": meter.read()})

    They join a log that is due anyway, and make none: a handler of `log` that measures at each log
    does not go on for ever. Of each name the newest value stands there, once; the newest of all are
    among the run's closing figures. A value of the same name that the run itself logs wins. What is
    measured after the run's closing figures is in no log.

    Raises:
        ArgumentError: not a dict of numbers, bools or texts by name.
    """

    model_config = FROZEN

    values: Scalars
    """By name."""

    def __init__(self, values: Any, /) -> None:
        try:
            super().__init__(values=values)
        except ValidationError as error:
            problem = error.errors()[0]
            raise ArgumentError(
                f"Measured({values!r}): {'.'.join(map(str, problem['loc']))} is "
                f"{problem['input']!r}: give a dict of numbers, bools or texts by name."
            ) from None
