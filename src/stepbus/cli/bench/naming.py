"""What stands at `module:name`, or why nothing does."""

from __future__ import annotations

import importlib
from typing import Any

from ...schemas.errors import ArgumentError, nearest


def resolve(target: str) -> Any:
    """What stands at `module:name`.

    Raises:
        ArgumentError: the words are not of that form, or nothing is there.
    """
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise ArgumentError(f"{target!r} is no module:name, such as my_loggers:CSVLogger.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.startswith(error.name):
            raise ArgumentError(
                f"There is no module {error.name!r} (for {target}): run stepbus bench where "
                "`import` finds it."
            ) from None
        raise _broken(module_name, error) from error
    except Exception as error:
        raise _broken(module_name, error) from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [word for word in vars(found) if not word.startswith("_")]
            raise ArgumentError(f"{module_name} has no {part!r}: {nearest(part, known)}")
        found = getattr(found, part)
    return found


def _broken(module_name: str, error: Exception) -> ArgumentError:
    return ArgumentError(
        f"The module {module_name} cannot be imported ({type(error).__name__}: {error})."
    )
