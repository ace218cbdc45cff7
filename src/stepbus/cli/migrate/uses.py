"""What a script does with a trainer once it has one: methods, attributes, `self` in subclasses."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from ...schemas.trainer_names import (
    ATTRIBUTES,
    CALLED,
    FORMER_METHODS,
    OVERRIDABLE,
    REFERENCE_METHODS,
    UNSUPPORTED_ATTRIBUTES,
    instead_of_method,
)
from .argument_values import check_argument
from .bindings import Bindings, Function, Role
from .findings import Findings
from .keywords import Keyword

OURS = frozenset({"bus", "train_async"})
TRAIN = frozenset({"resume_from_checkpoint", "ignore_keys_for_eval"})
HANDLER = frozenset({"callbacks", "on_evaluate", "on_predict"})
SUPPORTED = CALLED | OVERRIDABLE | ATTRIBUTES | OURS


class UseChecker:
    """Judges what is read and called of variables that are known to hold a trainer."""

    def __init__(self, tree: ast.AST, names: Bindings, found: Findings) -> None:
        self._tree = tree
        self._names = names
        self._found = found
        self._roles: dict[str, Role] = {}
        self._own: dict[str, frozenset[str]] = {}
        self._open_ended: set[str] = set()
        self._parents = {
            child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)
        }
        for node in ast.walk(tree):
            self._learn(node)

    def check(self) -> None:
        """Adds what becomes of every use."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Attribute):
                key = _key(node.value)
                role = self._roles.get(key) if key else None
                if key and role is Role.TRAINER:
                    own = self._own.get(key, frozenset())
                    self._check_use(node, own, key, key in self._open_ended)
                elif role is Role.ARGUMENTS and isinstance(node.ctx, ast.Store):
                    self._check_assigned(node)
        for one in self._names.classes.values():
            if self._names.role_of_class(one) is Role.TRAINER:
                self._check_self(one)

    def _learn(self, node: ast.AST) -> None:
        """Takes note of a variable that is made a trainer, or arguments of one."""
        for target, made_by in _made(node):
            key, role = _key(target), self._names.role(made_by)
            if key and role:
                self._roles[key] = role
                own = self._names.classes.get(made_by.id) if isinstance(made_by, ast.Name) else None
                self._own[key] = self._members(own) if own else frozenset()
                if own and self._names.has_other_bases(own):
                    self._open_ended.add(key)

    def _members(self, node: ast.ClassDef) -> frozenset[str]:
        """What the script itself gives a class: methods, attributes, what it assigns to `self`."""
        found: set[str] = set()
        for one in self._names.family(node):
            for inner in ast.walk(one):
                if isinstance(inner, Function | ast.ClassDef):
                    found.add(inner.name)
                elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    found.add(inner.attr)
                elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                    found.add(inner.id)
        return frozenset(found)

    def _check_self(self, node: ast.ClassDef) -> None:
        """`self` and `super()` inside a subclass."""
        own = self._members(node)
        open_ended = self._names.has_other_bases(node)
        for method in node.body:
            if not isinstance(method, Function) or not method.args.args:
                continue
            me = method.args.args[0].arg
            for inner in ast.walk(method):
                if not isinstance(inner, ast.Attribute):
                    continue
                if isinstance(inner.value, ast.Name) and inner.value.id == me:
                    self._check_use(inner, own, me, open_ended)
                elif isinstance(inner.value, ast.Call) and _is_super(inner.value):
                    self._check_use(inner, frozenset(), "super()", open_ended)

    def _check_use(
        self, node: ast.Attribute, own: frozenset[str], holder: str, open_ended: bool = False
    ) -> None:
        name, line, shown = node.attr, node.lineno, f"{holder}.{node.attr}"
        if name.startswith("__"):
            return
        what = "method" if name in REFERENCE_METHODS or name in FORMER_METHODS else "attribute"
        if name in UNSUPPORTED_ATTRIBUTES:
            self._found.refused(line, what, shown, UNSUPPORTED_ATTRIBUTES[name])
        elif name in REFERENCE_METHODS - SUPPORTED:
            # What a subclass has of its own is judged where it is defined.
            if name not in own or isinstance(node.ctx, ast.Store):
                self._found.refused(line, what, shown, instead_of_method(name))
        elif name in SUPPORTED:
            self._found.works(line, what, shown)
            self._look_closer(node, shown)
        elif isinstance(node.ctx, ast.Store) or name in own or open_ended:
            return
        elif name in FORMER_METHODS:
            self._found.refused(line, what, shown, instead_of_method(name))
        else:
            close = difflib.get_close_matches(name, SUPPORTED, n=1, cutoff=0.75)
            hint = f": did you mean {close[0]!r}?" if close else ""
            self._found.unknown(line, what, shown, f"a Trainer has no such name{hint}")

    def _look_closer(self, node: ast.Attribute, shown: str) -> None:
        """Of two names only a part is here."""
        parent = self._parents.get(node)
        if node.attr == "train" and isinstance(parent, ast.Call) and parent.func is node:
            for keyword in parent.keywords:
                if keyword.arg == "trial":
                    text = instead_of_method("hyperparameter_search")
                    self._found.refused(keyword.value.lineno, "argument", f"{shown}(trial=)", text)
                elif keyword.arg and keyword.arg not in TRAIN:
                    text = "train has no such argument"
                    name = f"{shown}({keyword.arg}=)"
                    self._found.unknown(keyword.value.lineno, "argument", name, text)
        inner = parent.attr if isinstance(parent, ast.Attribute) else "callbacks"
        if node.attr == "callback_handler" and inner not in HANDLER:
            text = (
                "only its callbacks, on_evaluate and on_predict are here: use add_callback, "
                "pop_callback, remove_callback"
            )
            self._found.refused(node.lineno, "attribute", f"{shown}.{inner}", text)

    def _check_assigned(self, node: ast.Attribute) -> None:
        """`args.fp16 = True` after the arguments were made."""
        parent = self._parents.get(node)
        if isinstance(parent, ast.Assign) and node in parent.targets:
            own = self._own.get(_key(node.value) or "", frozenset())
            check_argument(Keyword(node.attr, parent.value, node.lineno), self._found, own)


def _made(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Variables with the class, or the annotation, that says what they hold."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from ((target, made_by) for made_by in _callees(node.value))
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        if isinstance(node, ast.AnnAssign):
            yield node.target, node.annotation
        if node.value is not None:
            yield from ((node.target, made_by) for made_by in _callees(node.value))
    elif isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            if item.optional_vars is not None:
                target = item.optional_vars
                yield from ((target, made_by) for made_by in _callees(item.context_expr))
    elif isinstance(node, ast.arg) and node.annotation is not None:
        yield ast.Name(node.arg, ast.Load()), node.annotation


def _callees(value: ast.expr) -> Iterator[ast.expr]:
    if isinstance(value, ast.Call):
        yield value.func
    elif isinstance(value, ast.IfExp):
        yield from _callees(value.body)
        yield from _callees(value.orelse)


def _key(node: ast.expr) -> str | None:
    """What a variable is known by: `trainer`, `self.trainer`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = _key(node.value)
        return f"{inner}.{node.attr}" if inner else None
    return None


def _is_super(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "super"
