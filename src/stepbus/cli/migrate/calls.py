"""The calls that make the trainer and its arguments."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from ...schemas.trainer_names import CONSTRUCTOR
from .argument_values import KNOWN, WHAT, check_argument, contradiction, literal
from .bindings import Bindings, Function, Role
from .findings import Findings
from .keywords import Dictionaries, Keyword

_UNREAD = "built where it cannot be read here: look through it by hand"
_PARSER = "values from the command line or a file of settings are out of reach here"


class CallChecker:
    """Judges the arguments of `Trainer(...)` and `TrainingArguments(...)`."""

    def __init__(self, tree: ast.AST, names: Bindings, found: Findings) -> None:
        self._tree = tree
        self._names = names
        self._found = found
        self._dictionaries = Dictionaries(tree)

    def check(self) -> None:
        """Adds what becomes of every argument."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call):
                self._check_call(node, self._names.role(node.func))
        for one in self._names.classes.values():
            self._check_class(one)
        self._check_parser()

    def _check_call(self, call: ast.Call, role: Role | None, passed_on: str | None = None) -> None:
        """Judges one call.

        Args:
            passed_on: the `**` parameter of a subclass's constructor that makes the call.
        """
        if role not in (Role.TRAINER, Role.ARGUMENTS):
            return
        own = self._own_parameters(call.func)
        arguments, unread = self._dictionaries.keywords_of(call)
        for argument in arguments:
            if role is Role.ARGUMENTS:
                check_argument(argument, self._found, own)
            else:
                self._check_of_trainer(argument, own)
        for value in unread:
            if not (isinstance(value, ast.Name) and value.id == passed_on):
                self._found.unknown(value.lineno, WHAT, f"**{ast.unparse(value)}", _UNREAD)
        if role is Role.ARGUMENTS and not passed_on:
            self._check_whole(call, arguments, bool(unread))

    def _check_whole(self, call: ast.Call, arguments: list[Keyword], open_ended: bool) -> None:
        """What only the whole call tells."""
        if len(call.args) > 1 and not self._own_parameters(call.func):
            self._found.refused(
                call.lineno, WHAT, "TrainingArguments", "only output_dir goes without its name"
            )
        given = {argument.name: literal(argument.value) for argument in arguments}
        is_plain = bool(self._names.name_at_home(call.func))
        if is_plain and not open_ended and given.keys() <= KNOWN:
            problem = contradiction(given)
            if problem:
                self._found.refused(call.lineno, WHAT, "TrainingArguments", problem)
        if is_plain and not open_ended and "report_to" not in given:
            self._found.differs(
                call.lineno,
                WHAT,
                "report_to",
                "not given: stepbus then reports to every tracker that is set up, transformers 5 "
                "to none",
            )

    def _check_of_trainer(self, argument: Keyword, own: frozenset[str]) -> None:
        name, line = argument.name, argument.line
        if name in CONSTRUCTOR:
            self._found.works(line, WHAT, name)
        elif name in own:
            return
        elif name == "tokenizer":
            self._found.warns(line, WHAT, name, "version 4's name; write processing_class")
        else:
            close = difflib.get_close_matches(name, CONSTRUCTOR, n=1)
            hint = f": did you mean {close[0]!r}?" if close else ""
            self._found.unknown(line, WHAT, name, f"Trainer has no such argument{hint}")

    def _check_class(self, node: ast.ClassDef) -> None:
        """`super().__init__(...)` in a subclass, and fields that replace the reference's."""
        role = self._names.role_of_class(node)
        if role is Role.ARGUMENTS:
            for argument in _fields(node):
                check_argument(argument, self._found, _own_fields(node))
        if role not in (Role.TRAINER, Role.ARGUMENTS):
            return
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and _is_super_init(call):
                self._check_call(call, role, passed_on=_name_of_kwargs(node))

    def _own_parameters(self, func: ast.expr) -> frozenset[str]:
        """Arguments that a subclass of the script adds."""
        if not isinstance(func, ast.Name) or func.id not in self._names.classes:
            return frozenset()
        own: frozenset[str] = frozenset()
        for one in self._names.family(self._names.classes[func.id]):
            own |= _parameters(one) | _own_fields(one)
        return own

    def _check_parser(self) -> None:
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.Call):
                continue
            if self._names.name_at_home(node.func) == "HfArgumentParser":
                self._found.unknown(node.lineno, WHAT, "HfArgumentParser", _PARSER)
                return


def _fields(node: ast.ClassDef) -> Iterator[Keyword]:
    """The annotated fields of a dataclass that have a default."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value:
            yield Keyword(line.target.id, _default_of(line.value), line.lineno)


def _own_fields(node: ast.ClassDef) -> frozenset[str]:
    return frozenset(
        line.target.id
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    )


def _default_of(value: ast.expr) -> ast.expr:
    """The default in `field(default=...)`, or the value itself."""
    if isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg == "default":
                return keyword.value
    return value


def _init_of(node: ast.ClassDef) -> ast.arguments | None:
    for method in node.body:
        if isinstance(method, Function) and method.name == "__init__":
            return method.args
    return None


def _parameters(node: ast.ClassDef) -> frozenset[str]:
    arguments = _init_of(node)
    if arguments is None:
        return frozenset()
    return frozenset(
        a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    )


def _name_of_kwargs(node: ast.ClassDef) -> str | None:
    arguments = _init_of(node)
    return arguments.kwarg.arg if arguments and arguments.kwarg else None


def _is_super_init(call: ast.Call) -> bool:
    func = call.func
    if not isinstance(func, ast.Attribute) or func.attr != "__init__":
        return False
    inner = func.value
    return isinstance(inner, ast.Call) and getattr(inner.func, "id", "") == "super"
