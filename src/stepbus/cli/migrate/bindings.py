"""What the names of a script stand for: what it imports, and the classes it makes of that."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from enum import StrEnum

from .moved_names import CALLBACKS, MOVES, REFUSED_NAMES, is_foreign

HOME = frozenset({"transformers", "stepbus"})
"""Packages whose trainer-side names are looked at."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Role(StrEnum):
    """What a class of a script is to the trainer."""

    TRAINER = "Trainer"
    ARGUMENTS = "TrainingArguments"
    CALLBACK = "TrainerCallback"
    FOREIGN = "foreign"
    """A trainer, or its arguments, that needs transformers' own `Trainer`."""


class Bindings:
    """Finds what an expression of a script stands for.

    Names count for the whole file: scopes are not told apart, what comes from transformers wins.
    """

    def __init__(self, tree: ast.AST) -> None:
        self.classes: dict[str, ast.ClassDef] = {}
        self.stars: list[ast.ImportFrom] = []
        self._origins: dict[str, str] = {}
        self._bound: set[str] = set()
        for node in ast.walk(tree):
            self._take(node)

    def origin(self, node: ast.expr) -> str | None:
        """The dotted name that an expression was imported as, or None."""
        if isinstance(node, ast.Attribute):
            root = self.origin(node.value)
            return f"{root}.{node.attr}" if root else None
        if not isinstance(node, ast.Name):
            return None
        if node.id in self._origins:
            return self._origins[node.id]
        starred = self.stars and node.id not in self._bound
        return f"transformers.{node.id}" if starred and _is_known(node.id) else None

    def name_at_home(self, node: ast.expr) -> str | None:
        """The plain name of something that comes from transformers or stepbus, or None."""
        origin = self.origin(node)
        if not origin or origin.partition(".")[0] not in HOME or "." not in origin:
            return None
        return origin.rpartition(".")[2]

    def role(self, node: ast.expr, seen: frozenset[str] = frozenset()) -> Role | None:
        """What the class that an expression names is to the trainer."""
        if isinstance(node, ast.Subscript):
            node = node.value
        if isinstance(node, ast.Name) and node.id in self.classes and node.id not in seen:
            bases = self.classes[node.id].bases
            roles = (self.role(base, seen | {node.id}) for base in bases)
            return next((role for role in roles if role), None)
        origin = self.origin(node)
        if origin and is_foreign(origin):
            return Role.FOREIGN
        name = self.name_at_home(node)
        if name in (Role.TRAINER, Role.ARGUMENTS):
            return Role(name)
        return Role.CALLBACK if name in CALLBACKS else None

    def role_of_class(self, node: ast.ClassDef) -> Role | None:
        """What a class of the script is to the trainer."""
        roles = (self.role(base, frozenset({node.name})) for base in node.bases)
        return next((role for role in roles if role), None)

    def family(self, node: ast.ClassDef) -> Iterator[ast.ClassDef]:
        """A class and those of the script that it derives from."""
        seen: set[int] = set()
        waiting = [node]
        while waiting:
            found = waiting.pop()
            if id(found) in seen:
                continue
            seen.add(id(found))
            yield found
            names = [base.id for base in found.bases if isinstance(base, ast.Name)]
            waiting += [self.classes[name] for name in names if name in self.classes]

    def has_other_bases(self, node: ast.ClassDef) -> bool:
        """Whether a class derives from something that is neither the script's nor known."""
        return any(
            self.role(base) is None and not (isinstance(base, ast.Name) and base.id == "object")
            for one in self.family(node)
            for base in one.bases
        )

    def _take(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                self._bind(name, alias.name if alias.asname else name)
        elif isinstance(node, ast.ImportFrom):
            self._take_from(node)
        elif isinstance(node, ast.ClassDef):
            self.classes[node.name] = node
            self._bound.add(node.name)
        elif isinstance(node, Function):
            self._bound.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self._bound.add(node.id)

    def _take_from(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            self._bound.update(alias.asname or alias.name for alias in node.names)
            return
        for alias in node.names:
            if alias.name != "*":
                self._bind(alias.asname or alias.name, f"{node.module}.{alias.name}")
            elif node.module.partition(".")[0] == "transformers":
                self.stars.append(node)

    def _bind(self, name: str, origin: str) -> None:
        self._bound.add(name)
        known = self._origins.get(name, "")
        if known.partition(".")[0] not in HOME:
            self._origins[name] = origin


def _is_known(name: str) -> bool:
    return name in MOVES or name in REFUSED_NAMES
