"""What checkpoints keep of callbacks: their states, by class name and number."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from ..bus import Subscriber
from ..bus.diagnostics import get_logger

log = get_logger()

TRIES = 5
"""How often the state of a subscriber that is at work is asked for."""


def save_states(callbacks: Iterable[Any]) -> dict[str, Any]:
    """The state of all that have one, by class name and number.

    Gate callbacks are as they are after this step. A concurrent subscriber is asked while it may be
    at work: its state is that of some event up to this step. Callbacks of the reference's
    `ExportableState` shape are asked for `state()`.
    """
    states = {}
    for name, holder in _named(callbacks):
        state = _state_of(name, holder)
        if state:
            states[name] = state
    return states


def load_states(callbacks: Iterable[Any], states: dict[str, Any]) -> None:
    """Gives each its state back; one that the checkpoint does not know keeps its own.

    The instances stay the same, and in their places.
    """
    for name, holder in _named(callbacks):
        if name not in states:
            continue
        if _has_state_dict(holder):
            holder.load_state_dict(states[name])
        else:
            for attribute, value in states[name].get("attributes", {}).items():
                setattr(holder, attribute, value)


def export(callbacks: Iterable[Any]) -> dict[str, Any]:
    """The states for `trainer_state.json`: by class name, several of one class as a list."""
    found: dict[str, list[Any]] = {}
    for holder in callbacks:
        state = _exported(holder)
        if state is not None:
            found.setdefault(type(holder).__name__, []).append(state)
    return {name: states if len(states) > 1 else states[0] for name, states in found.items()}


def _named(callbacks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    counts: dict[str, int] = {}
    for holder in callbacks:
        if _has_state_dict(holder) or _exported(holder) is not None:
            kind = type(holder).__name__
            counts[kind] = counts.get(kind, 0) + 1
            yield f"{kind}/{counts[kind]}", holder


def _has_state_dict(holder: Any) -> bool:
    return hasattr(holder, "state_dict") and hasattr(holder, "load_state_dict")


def _exported(holder: Any) -> dict[str, Any] | None:
    """The state of one that has the reference's shape; None for all others."""
    ask = getattr(holder, "state", None)
    if not inspect.ismethod(ask) or inspect.signature(ask).parameters:
        return None  # Anything may be called so.
    state = ask()
    return state if isinstance(state, dict) and {"args", "attributes"} <= state.keys() else None


def _state_of(name: str, holder: Any) -> Any:
    if not _has_state_dict(holder):
        return _exported(holder)
    return _state_at_work(name, holder) if isinstance(holder, Subscriber) else holder.state_dict()


def _state_at_work(name: str, holder: Subscriber) -> dict[str, Any]:
    for left in reversed(range(TRIES)):
        try:
            return copy.deepcopy(holder.state_dict())
        except RuntimeError as error:  # A collection that changed while it was gone through.
            if not left:
                log.warning(f"the state of {name} could not be read and is not saved: {error}")
    return {}
