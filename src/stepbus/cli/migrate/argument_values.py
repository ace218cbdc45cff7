"""What becomes of one training argument: of its name, and of its value where that is literal."""

from __future__ import annotations

import ast
import difflib
import warnings
from typing import Any

from ...bus.registry import Registry
from ...schemas import TrainingArguments
from ...schemas.argument_names import (
    FORMER,
    FORMER_REFUSED,
    KEPT,
    OWN,
    REFUSED,
    SUPPORTED,
)
from ...schemas.errors import ArgumentError, nearest
from .findings import Findings
from .keywords import Keyword
from .moved_names import TRACKER_CALLBACKS

NOT_LITERAL = object()
"""Stands for a value that only running the script would tell."""

WHAT = "argument"

KNOWN = SUPPORTED | OWN | KEPT | REFUSED.keys() | FORMER.keys() | FORMER_REFUSED.keys()

DEPENDENT = frozenset(
    """
    eval_strategy evaluation_strategy eval_steps save_strategy save_steps logging_strategy
    logging_steps load_best_model_at_end metric_for_best_model greater_is_better
    dataloader_prefetch_factor dataloader_persistent_workers resume_from_checkpoint
    """.split()
)
"""Arguments whose values cannot be judged one by one, or not on this machine."""

NOT_TOGETHER = frozenset({"report_to", "resume_from_checkpoint", *FORMER_REFUSED})
"""Arguments that are judged elsewhere, or depend on the machine."""

_DIFFERENT: dict[str, tuple[object, str]] = {
    "logging_nan_inf_filter": (True, "NaN and inf are reported as they are, never smoothed"),
    "enable_jit_checkpoint": (False, "a SIGTERM always saves before it ends the run"),
}
"""Arguments that are taken, with the value at which they do something else, and what."""


def literal(value: ast.expr) -> Any:
    """What an expression is worth, or `NOT_LITERAL`."""
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return NOT_LITERAL


def check_argument(argument: Keyword, found: Findings, own: frozenset[str] = frozenset()) -> None:
    """Adds what becomes of one argument of `TrainingArguments`.

    Args:
        own: arguments that a subclass of the script adds.
    """
    name, line = argument.name, argument.line
    value = literal(argument.value)
    if name in own - KNOWN:
        return
    if name == "report_to":
        _check_report_to(argument.value, line, found)
    elif name in REFUSED:
        _check_default(name, value, line, found)
    elif name in FORMER_REFUSED:
        found.refused(line, WHAT, name, FORMER_REFUSED[name])
    elif name not in KNOWN:
        close = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        found.unknown(line, WHAT, name, f"there is no such argument{hint}")
    elif (problem := refusal(name, value)) is not None:
        found.refused(line, WHAT, name, problem)
    elif name in FORMER:
        _check_former(name, line, found)
    elif name in _DIFFERENT and value in (_DIFFERENT[name][0], NOT_LITERAL):
        found.differs(line, WHAT, name, _DIFFERENT[name][1])
    else:
        found.works(line, WHAT, name)


def refusal(name: str, value: Any) -> str | None:
    """Why stepbus refuses a literal value of an argument, or None."""
    if value is NOT_LITERAL or name in DEPENDENT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TrainingArguments(**{name: value})
    except ArgumentError as error:
        return str(error).removeprefix(f"TrainingArguments.{name} is ").rstrip(".")
    return None


def contradiction(values: dict[str, Any]) -> str | None:
    """Why stepbus refuses literal values together that it takes one by one, or None."""
    judged = {name: value for name, value in values.items() if name not in NOT_TOGETHER}
    if NOT_LITERAL in judged.values() or any(refusal(*item) for item in judged.items()):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TrainingArguments(**judged)
    except ArgumentError as error:
        return str(error).rstrip(".")
    return None


def _check_default(name: str, value: Any, line: int, found: Findings) -> None:
    """One that must stay at its default."""
    instead = REFUSED[name]
    if value is NOT_LITERAL:
        found.unknown(line, WHAT, name, f"refused unless it is the default: {instead}")
    elif refusal(name, value) is not None:
        found.refused(line, WHAT, name, instead)
    else:
        found.works(line, WHAT, name, "the default")


def _check_former(name: str, line: int, found: Findings) -> None:
    """One that version 4 called otherwise."""
    text = f"version 4's name; write {FORMER[name]}".replace("write nothing: ", "")
    found.warns(line, WHAT, name, text)


def _check_report_to(value: ast.expr, line: int, found: Findings) -> None:
    given = literal(value)
    if given is NOT_LITERAL:
        found.unknown(line, WHAT, "report_to", "the trackers cannot be read here")
        return
    names = [given] if isinstance(given, str) else given
    if names is None:
        found.works(line, WHAT, "report_to", "every tracker that is set up")
        return
    known = {*Registry().names(), "all", "none"}
    for name in names if isinstance(names, list | tuple) else [names]:
        _check_tracker(str(name), known, line, found)


def _check_tracker(name: str, known: set[str], line: int, found: Findings) -> None:
    shown = f"report_to={name!r}"
    if name in known:
        found.works(line, WHAT, shown)
    elif name in TRACKER_CALLBACKS.values():
        found.refused(line, WHAT, shown, "not yet: leave it out of report_to")
    else:
        close = nearest(name, known | set(TRACKER_CALLBACKS.values()))
        found.unknown(line, WHAT, shown, f"there is no such tracker: {close}")
