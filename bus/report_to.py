"""What `report_to` stands for: which reporters a run attaches, and why the others are left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..schemas.errors import ArgumentError, DeliveryError, nearest
from .subscriber import Subscriber

if TYPE_CHECKING:
    from .registry import Registry

VARIABLE = "STEPBUS_REPORT_TO"
"""Environment variable that overrides `report_to`: names with commas between them, all, none."""


CLOSED = {"neptune": "the service closed in March 2026"}
"""Trackers of the reference that there is nothing of to report to."""
ALSO_CALLED = {
    "tb": "tensorboard",
    "w&b": "wandb",
    "wb": "wandb",
    "weights_and_biases": "wandb",
    "weightsandbiases": "wandb",
    "carbon": "codecarbon",
    "azure": "azure_ml",
    "dvc": "dvclive",
    "comet": "comet_ml",
}
"""What trackers are called and not named."""


class Choice(NamedTuple):
    """One reporter that was considered for a run."""

    name: str
    attached: bool
    reason: str
    """Why it is attached, or why not."""
    subscriber: type[Subscriber] | None = None
    """Its class, to be called without arguments; None where it is not attached."""
    asked_for: bool = False
    """True for one that was named: the run must not start without it."""


def resolve_report_to(
    report_to: str | Sequence[str] | None,
    registry: Registry,
    environ: Mapping[str, str] | None = None,
) -> list[Choice]:
    """The reporters that a run attaches, each once, and the trackers that it leaves out.

    None means every tracker that is set up (installed, and logged in or configured where it needs
    that); "all" every installed tracker that needs no login; "none" or an empty list nothing.
    Names are exact. Beside the trackers, files such as csv, jsonl and loss_curve and the log
    entries of structlog can be named. `STEPBUS_REPORT_TO` in the environment wins.

    Raises:
        ArgumentError: an unknown name, one that is no reporter, or one whose package is missing.
        DeliveryError: a named one is broken.
    """
    override = (os.environ if environ is None else environ).get(VARIABLE, "").strip()
    source = f"{VARIABLE}={override}" if override else "report_to"
    wanted = _names(override.split(",") if override else report_to, source)
    if wanted is None:
        return [_if_set_up(name, registry) for name in _trackers(registry)]
    named = [name for name in wanted if name != "all"]
    choices = [_named(name, registry, source) for name in named]
    if "all" in wanted:
        rest = (name for name in _trackers(registry) if name not in named)
        choices += [_if_no_login(name, registry) for name in rest]
    return choices


def describe(choices: Iterable[Choice]) -> str:
    """One line for the start of a run: what reports, and why the other trackers do not."""
    choices = list(choices)
    attached = ", ".join(choice.name for choice in choices if choice.attached)
    left_out = ", ".join(f"{c.name} ({c.reason})" for c in choices if not c.attached)
    line = f"reporting to {attached}" if attached else "reporting to no tracker"
    return f"{line}; not to {left_out}" if left_out else line


def _names(report_to: Any, source: str) -> list[str] | None:
    if report_to is None:
        return None
    given = [report_to] if isinstance(report_to, str) else report_to
    if not isinstance(given, list | tuple) or not all(isinstance(name, str) for name in given):
        raise ArgumentError(
            f"report_to={report_to!r}: give a name, a list of names, 'all', 'none' or None."
        )
    names = list(dict.fromkeys(name.strip() for name in given))
    if "none" in names and len(names) > 1:
        raise ArgumentError(f"{source} has 'none' among other names: leave out one or the other.")
    return [] if names == ["none"] else names


def _trackers(registry: Registry) -> list[str]:
    """The names of all trackers, and of those that cannot be asked since they are broken."""
    return [name for name in registry.names() if _is_tracker(name, registry)]


def _is_tracker(name: str, registry: Registry) -> bool:
    try:
        return bool(getattr(registry.load(name), "tracker_name", ""))
    except DeliveryError:
        return True


def _named(name: str, registry: Registry, source: str) -> Choice:
    known = registry.names()
    if name in CLOSED:
        raise ArgumentError(f"{source}: {name!r} cannot be reported to: {CLOSED[name]}.")
    if name not in known and name.lower() in ALSO_CALLED:
        right = ALSO_CALLED[name.lower()]
        raise ArgumentError(f"{source}: there is no tracker {name!r}: did you mean {right!r}?")
    if name not in known:
        raise ArgumentError(f"{source}: there is no tracker {name!r}: {nearest(name, known)}")
    found = registry.load(name)
    if not issubclass(found, Subscriber) or not getattr(found, "reports", True):
        raise ArgumentError(
            f"{source}: {name!r} is no reporter but {found.__name__}: add it with add_callback."
        )
    if not _asked(found, "is_installed"):
        raise ArgumentError(f"{source}: {name!r} was asked for and is {_missing(found)}.")
    why_not = _asked_text(found, "why_not")
    if why_not:
        raise ArgumentError(f"{source}: {name!r} was asked for, and {why_not}.")
    return Choice(name, True, "named", found, asked_for=True)


def _if_set_up(name: str, registry: Registry) -> Choice:
    return _unless_left_out(name, registry, "is_set_up", "set up", "not set up")


def _if_no_login(name: str, registry: Registry) -> Choice:
    return _unless_left_out(name, registry, "", "installed", "needs a login: name it")


def _unless_left_out(name: str, registry: Registry, fact: str, yes: str, no: str) -> Choice:
    try:
        found = registry.load(name)
        if not _asked(found, "is_installed"):
            return Choice(name, False, _missing(found))
        why_not = _asked_text(found, "why_not")
        if why_not:
            return Choice(name, False, why_not)
        ready = _asked(found, fact) if fact else not getattr(found, "needs_login", False)
    except Exception as error:
        return Choice(name, False, f"broken: {error}")
    if not ready or not issubclass(found, Subscriber):
        set_up_by = getattr(found, "set_up_by", "")
        return Choice(name, False, f"{no}: {set_up_by}" if fact and set_up_by else no)
    return Choice(name, True, yes, found)


def _asked(found: type, fact: str) -> bool:
    """What a class says of itself; one that says nothing has nothing to install or set up."""
    answer = getattr(found, fact, None)
    return True if answer is None else bool(answer())


def _asked_text(found: type, what: str) -> str:
    answer = getattr(found, what, None)
    return "" if answer is None else str(answer())


def _missing(found: type) -> str:
    extra = getattr(found, "extra", "")
    return f"not installed: pip install 'stepbus[{extra}]'" if extra else "not installed"
