"""The batch that a loader has loaded ahead of the one in use, kept in checkpoints.

It was made from random numbers of before the step that a checkpoint is of, so a resumed run cannot
make it again: with it, the run goes on as if it had not been broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..bus.diagnostics import get_logger

log = get_logger()

PLAIN = (Tensor, str, int, float, type(None))


def storable(batch: Any) -> Any:
    """The batch in what a checkpoint can hold; None where it has other things in it."""
    try:
        return _stored(batch)
    except TypeError:
        return None


def renewed(batch: Any, saved: Any) -> Any:
    """A batch that was loaded anew, with the values of the one that was saved."""
    if saved is None:
        return batch
    try:
        return _filled(batch, saved)
    except (KeyError, IndexError, TypeError, AttributeError):
        log.warning(
            "the batch loaded ahead does not have the form of the one in the checkpoint: the data "
            "is another than that of the first attempt"
        )
        return batch


def _stored(value: Any) -> Any:
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, Mapping):
        return {str(name): _stored(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_stored(item) for item in value]
    raise TypeError(f"a {type(value).__name__} is no plain value")


def _filled(value: Any, saved: Any) -> Any:
    if isinstance(value, Tensor):
        return saved.to(value.device)
    if isinstance(value, Mapping):
        filled = {name: _filled(item, saved[str(name)]) for name, item in value.items()}
        return filled if type(value) is dict else type(value)(filled)  # type: ignore[call-arg]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_filled, value, saved))
    if isinstance(value, list | tuple):
        return type(value)(map(_filled, value, saved))
    return saved
