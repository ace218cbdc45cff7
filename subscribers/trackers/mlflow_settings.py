"""What MLflow's callbacks were told: by their arguments, else by the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ...schemas.errors import ArgumentError

TRUE = ("TRUE", "1", "YES", "Y", "ON")


class MLflowSettings:
    """The arguments of a callback, and the variables that stand in for those that are None.

    Args:
        arguments: the constructor's, by name.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments = dict(arguments)

    @property
    def tracking_uri(self) -> str | None:
        """Where to; None where nobody says."""
        return self.chosen("tracking_uri", "MLFLOW_TRACKING_URI")

    def chosen(self, argument: str, variable: str) -> str | None:
        """A text; None where neither has one."""
        return self.arguments.get(argument) or os.environ.get(variable) or None

    def is_on(self, argument: str, variable: str) -> bool:
        """Whether something is wanted."""
        given = self.arguments.get(argument)
        return bool(given) if given is not None else is_true(variable)

    def tags(self) -> dict[str, str]:
        """Tags of MLFLOW_TAGS, and those of the arguments.

        Raises:
            ArgumentError: MLFLOW_TAGS is no JSON object.
        """
        text = os.environ.get("MLFLOW_TAGS")
        try:
            found = json.loads(text) if text else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ArgumentError(f"MLFLOW_TAGS is {text!r}: it must be a JSON object.")
        return {**{k: str(v) for k, v in found.items()}, **(self.arguments.get("tags") or {})}

    def max_params(self) -> int | None:
        """How many parameters at most; None for all.

        Raises:
            ArgumentError: MLFLOW_MAX_LOG_PARAMS is no whole number.
        """
        text = os.environ.get("MLFLOW_MAX_LOG_PARAMS")
        given = self.arguments.get("max_log_params")
        if given is not None or not text:
            return int(given) if given is not None else None
        if not text.isdigit():
            raise ArgumentError(f"MLFLOW_MAX_LOG_PARAMS is {text!r}: it must be a whole number.")
        return int(text)


def is_true(variable: str) -> bool:
    """Whether a variable says yes."""
    return os.environ.get(variable, "").upper() in TRUE
