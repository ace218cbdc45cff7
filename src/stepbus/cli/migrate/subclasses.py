"""Subclasses of the trainer and of callbacks: which of their methods are called."""

from __future__ import annotations

import ast
import difflib
import re

from ...bus.subscriber import TrainerCallback
from ...schemas.trainer_names import (
    FORMER_METHODS,
    OVERRIDABLE,
    REFERENCE_METHODS,
    UNSUPPORTED_ATTRIBUTES,
    instead_of_method,
)
from .bindings import Bindings, Function, Role
from .findings import Findings
from .moved_names import TRACKER_CALLBACKS

HOOKS = frozenset(name for name in dir(TrainerCallback) if name.startswith("on_"))

LATER_PARAMETERS = {
    "compute_loss": "num_items_in_batch",
    "training_step": "num_items_in_batch",
    "log": "start_time",
}
"""Parameters that overrides written for version 4 often lack."""

_AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


def check_subclasses(names: Bindings, found: Findings) -> None:
    """Adds what becomes of each method of the script's trainers and callbacks."""
    for node in names.classes.values():
        role = names.role_of_class(node)
        if role is Role.TRAINER:
            _check_trainer(node, found)
        elif role is Role.CALLBACK:
            _check_callback(node, names, found)


def _check_trainer(node: ast.ClassDef, found: Findings) -> None:
    for line in node.body:
        if isinstance(line, Function):
            _check_override(line, f"{node.name}.{line.name}", found)
        for target in _targets(line):
            if target in UNSUPPORTED_ATTRIBUTES:
                text = UNSUPPORTED_ATTRIBUTES[target]
                found.refused(line.lineno, "attribute", f"{node.name}.{target}", text)


def _check_override(method: _AnyFunction, shown: str, found: Findings) -> None:
    name, line = method.name, method.lineno
    if name in OVERRIDABLE:
        missing = LATER_PARAMETERS.get(name)
        if missing and not _takes(method, missing):
            text = f"version 4's signature: add {missing}=None"
            found.differs(line, "override", shown, text)
        else:
            found.works(line, "override", shown)
    elif name in REFERENCE_METHODS or name in FORMER_METHODS:
        text = f"it would never be called: {instead_of_method(name)}"
        found.refused(line, "override", shown, text)


def _check_callback(node: ast.ClassDef, names: Bindings, found: Findings) -> None:
    tracker = _tracker_of(node, names)
    for method in node.body:
        if not isinstance(method, Function):
            continue
        shown = f"{node.name}.{method.name}"
        if method.name.startswith("on_"):
            _check_hook(method, shown, found)
        elif tracker and re.match(r"setup$|_(?!_)", method.name):
            text = f"stepbus's {tracker} has none: override its hooks"
            found.differs(method.lineno, "override", shown, text)


def _check_hook(method: _AnyFunction, shown: str, found: Findings) -> None:
    name, line = method.name, method.lineno
    if name not in HOOKS:
        close = difflib.get_close_matches(name, HOOKS, n=1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        found.unknown(line, "hook", shown, f"no event calls it{hint}")
    elif isinstance(method, ast.AsyncFunctionDef):
        found.refused(line, "hook", shown, "hooks are not async: make it a Subscriber")
    elif "tokenizer" in {a.arg for a in [*method.args.args, *method.args.kwonlyargs]}:
        found.differs(line, "hook", shown, "the keyword is processing_class, as in version 5")
    else:
        found.works(line, "hook", shown)


def _tracker_of(node: ast.ClassDef, names: Bindings) -> str | None:
    """The tracker's callback that a class derives from."""
    for one in names.family(node):
        for base in one.bases:
            name = names.name_at_home(base)
            if name in TRACKER_CALLBACKS:
                return name
    return None


def _takes(method: _AnyFunction, name: str) -> bool:
    arguments = method.args
    if arguments.kwarg or arguments.vararg:
        return True
    return name in {a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]}


def _targets(line: ast.stmt) -> list[str]:
    """The names that a line of a class's body gives a value."""
    if isinstance(line, ast.Assign):
        return [target.id for target in line.targets if isinstance(target, ast.Name)]
    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value:
        return [line.target.id]
    return []
