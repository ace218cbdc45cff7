"""The keyword arguments of a call, also those that dictionaries of the same file bring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import NamedTuple


class Keyword(NamedTuple):
    """One argument of a call."""

    name: str
    value: ast.expr
    line: int


class Dictionaries:
    """The dictionaries with literal keys that a script gives names to."""

    def __init__(self, tree: ast.AST) -> None:
        self._items: dict[str, list[Keyword]] = {}
        self._spreads: dict[str, list[ast.expr]] = {}
        self._returned = {
            node.name: returned
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and (returned := _returned_dictionary(node))
        }
        for node in ast.walk(tree):
            self._take(node)

    def keywords_of(self, call: ast.Call) -> tuple[list[Keyword], list[ast.expr]]:
        """The arguments of a call by name, and the `**` expressions that cannot be read."""
        found = [
            Keyword(keyword.arg, keyword.value, keyword.value.lineno)
            for keyword in call.keywords
            if keyword.arg
        ]
        unread: list[ast.expr] = []
        for keyword in call.keywords:
            if keyword.arg is None:
                self._spread(keyword.value, found, unread, frozenset())
        return found, unread

    def _spread(
        self,
        value: ast.expr,
        found: list[Keyword],
        unread: list[ast.expr],
        seen: frozenset[str],
    ) -> None:
        items, spreads = _items_of(self._made_by(value))
        if items is None:
            if not isinstance(value, ast.Name) or value.id not in self._items or value.id in seen:
                unread.append(value)
                return
            items, spreads = self._items[value.id], self._spreads.get(value.id, [])
            seen |= {value.id}
        found += items
        for inner in spreads:
            self._spread(inner, found, unread, seen)

    def _made_by(self, value: ast.expr) -> ast.expr:
        """What a function of the script returns, where that is a dictionary; else the value."""
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            return self._returned.get(value.func.id, value)
        return value

    def _take(self, node: ast.AST) -> None:
        for target, value in _assignments(node):
            if isinstance(target, ast.Name):
                items, spreads = _items_of(self._made_by(value))
                if items is not None:
                    self._put(target.id, items, spreads)
            elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                key = target.slice
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    self._put(target.value.id, [Keyword(key.value, value, value.lineno)], [])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            self._take_update(node, node.func)

    def _take_update(self, node: ast.Call, func: ast.Attribute) -> None:
        if func.attr == "update" and isinstance(func.value, ast.Name):
            items = [Keyword(k.arg, k.value, k.value.lineno) for k in node.keywords if k.arg]
            self._put(func.value.id, items, list(node.args))

    def _put(self, name: str, items: list[Keyword], spreads: list[ast.expr]) -> None:
        self._items.setdefault(name, []).extend(items)
        self._spreads.setdefault(name, []).extend(spreads)


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield target, node.value
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        yield node.target, node.value


def _returned_dictionary(function: ast.FunctionDef) -> ast.expr | None:
    """The dictionary that a function returns, where it returns one such and nothing else."""
    values = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    if len(values) != 1 or values[0] is None or _items_of(values[0])[0] is None:
        return None
    return values[0]


def _items_of(value: ast.expr) -> tuple[list[Keyword] | None, list[ast.expr]]:
    """The items of `{...}` or `dict(...)`, and what they spread; None for anything else."""
    if isinstance(value, ast.Dict):
        items = [
            Keyword(key.value, item, item.lineno)
            for key, item in zip(value.keys, value.values, strict=True)
            if isinstance(key, ast.Constant) and isinstance(key.value, str)
        ]
        return items, [v for k, v in zip(value.keys, value.values, strict=True) if k is None]
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "dict":
        items = [Keyword(k.arg, k.value, k.value.lineno) for k in value.keywords if k.arg]
        return items, [*value.args, *(k.value for k in value.keywords if k.arg is None)]
    return None, []
