"""A call in Hugging Face's shape as an event: its logs or metrics, step, epoch and arguments."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..schemas import Event, TrainerState
from ..schemas.event import event_class
from .diagnostics import get_logger
from .lease import Lease

log = get_logger()

NAME_OF_VALUES = {"log": "logs", "evaluate": "metrics", "predict": "metrics"}
"""The keyword, and the event's field, of the values of a kind."""
_SCALARS = (bool, int, float, str)
_named: set[tuple[str, str]] = set()


def given_values(
    callback: str, kind: str, more: tuple[Any, ...], keywords: Mapping[str, Any]
) -> dict[str, Any]:
    """The logs or metrics of a call under their name, copied; empty where it gave none."""
    name = NAME_OF_VALUES.get(kind)
    if name is None:
        return {}
    given = keywords.get(name)
    if given is None:
        given = next((value for value in more if isinstance(value, Mapping)), None)
    return {name: plain_values(callback, given)} if isinstance(given, Mapping) else {}


def event_of_call(
    kind: str,
    args: Any,
    state: Any,
    values: dict[str, Any],
    keywords: Mapping[str, Any],
    header: Mapping[str, Any],
) -> Event:
    """An event of a kind with what a call in Hugging Face's shape says of it.

    Args:
        args, state: as the call has them; attributes that are missing have their defaults.
        values: logs or metrics, by the name of the field.
        keywords: the call's other keywords.
        header: run, attempt and rank, where there is a run.

    Raises:
        pydantic.ValidationError: the kind has fields that the call says nothing of.
    """
    now, first = time.monotonic(), getattr(state, "is_world_process_zero", True)
    fields = {
        "rank": 0 if first else 1,
        "time": time.time(),
        "monotonic": now,
        "step": int(getattr(state, "global_step", 0) or 0),
        "epoch": float(getattr(state, "epoch", 0.0) or 0.0),
        **header,
    }
    if kind in NAME_OF_VALUES:
        fields[NAME_OF_VALUES[kind]] = {}
    fields |= _fields(kind, args, state, keywords) | values
    event = event_class(kind).model_validate(fields)
    if isinstance(state, TrainerState):
        event.attach_state(state.mark())
    if kind == "save":
        object.__setattr__(event, "lease", Lease())
    return event


def _fields(kind: str, args: Any, state: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    output_dir = str(getattr(args, "output_dir", None) or "")
    if kind == "save":
        step = int(getattr(state, "global_step", 0) or 0)
        return {"path": str(Path(output_dir) / f"checkpoint-{step}")}
    if kind == "run_failed":
        error = keywords.get("error")
        return {"error": type(error).__name__, "message": str(error), "traceback": ""}
    if kind != "train_begin":
        return {}
    model = keywords.get("model")
    to_dict = getattr(args, "to_dict", None)
    return {
        "arguments": to_dict() if callable(to_dict) else {},
        "run_name": getattr(args, "run_name", None),
        "output_dir": output_dir,
        "model": type(model).__name__ if model is not None else "",
        "max_steps": int(getattr(state, "max_steps", 0) or 0),
        "num_train_epochs": float(getattr(state, "num_train_epochs", 0) or 0),
    }


def plain_values(callback: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with Python's own numbers; what is none, nor text, is left out and named once."""
    plain = {}
    for name, value in values.items():
        scalar = _scalar(value)
        if scalar is not value or isinstance(value, _SCALARS) or value is None:
            plain[str(name)] = scalar
        elif (callback, str(name)) not in _named:
            _named.add((callback, str(name)))
            log.warning(
                f"{callback} was given {name!r} as a {type(value).__name__}, which is neither a "
                "number nor text: it is left out."
            )
    return plain


def _scalar(value: Any) -> Any:
    """The value of a number of another library; anything else as it is."""
    if value is None or type(value) in _SCALARS:
        return value
    if isinstance(value, str):
        return str.__str__(value)  # Of a member of an enumeration its value.
    if isinstance(value, float | int):
        return float(value) if isinstance(value, float) else int(value)
    try:
        number = value.item()
    except Exception:  # No number, or an array of several; each library has its own error.
        return value
    return number if isinstance(number, _SCALARS) else value
