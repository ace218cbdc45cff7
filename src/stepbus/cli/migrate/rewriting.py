"""The imports of a script changed so that what moves comes from stepbus; all else stays."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator

from ...schemas.errors import StepbusError
from .bindings import Bindings
from .edits import Edit, apply, line_end, line_start, newline_of
from .import_statements import new_import, split
from .moved_names import MOVES, is_foreign
from .notebooks import with_cells
from .sources import Part, Source

_MODULE = re.compile(r"(?<=from)([\s\\]+)transformers[\w.]*")


class Rewriter:
    """Changes the imports of one file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._tree = source.tree
        self._names = Bindings(self._tree)
        self._moved_attributes = list(self._find_attributes())
        self._roots = {_root(node).id for node in self._moved_attributes}

    def parts(self) -> list[str]:
        """The new text of the script, or of each code cell of the notebook."""
        if self._stays():
            return [part.text for part in self._source.parts]
        return [self._rewrite(part) for part in self._source.parts]

    def content(self) -> str:
        """The new text of the whole file."""
        parts = self.parts()
        if not self._source.is_notebook:
            return parts[0]
        old = [part.text for part in self._source.parts]
        changed = {n: new for n, new in enumerate(parts) if new != old[n]}
        if not changed:
            return self._source.content
        return with_cells(self._source.content, self._source.name, changed)

    def diff(self) -> str:
        """What changes, as a unified diff; empty where nothing does."""
        found = []
        for number, (part, new) in enumerate(zip(self._source.parts, self.parts(), strict=True)):
            cell = f" (cell {number + 1})" if self._source.is_notebook else ""
            name = f"{self._source.name}{cell}"
            before, after = _lines(part.text), _lines(new)
            found += [
                line if line.endswith(("\n", "\r")) else f"{line}\n\\ No newline at end of file\n"
                for line in difflib.unified_diff(before, after, name, name)
            ]
        return "".join(found)

    def _stays(self) -> bool:
        """A script whose only trainer is one that needs transformers' own is left alone."""
        origins = [
            self._names.origin(node)
            for node in ast.walk(self._tree)
            if isinstance(node, ast.Name | ast.Attribute)
        ]
        origins += [
            f"{node.module}.{alias.name}"
            for node in ast.walk(self._tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ]
        taken = {origin for origin in origins if origin}
        ours = any(o.startswith("transformers.") and o.endswith(".Trainer") for o in taken)
        return not ours and any(map(is_foreign, taken))

    def _rewrite(self, part: Part) -> str:
        edits: list[Edit] = []
        for node in ast.walk(part.tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                edits += self._edits_of_from(node, part)
            elif isinstance(node, ast.Import):
                edits += self._edits_of_import(node, part)
        for attribute in self._moved_attributes:
            if part.holds(attribute.lineno):
                edits += _edits_of_attribute(attribute, part)
        new = apply(part.text, edits)
        if edits and new != part.text:
            _check_parses(new, self._source)
        return new

    def _edits_of_from(self, node: ast.ImportFrom, part: Part) -> Iterator[Edit]:
        if (node.module or "").partition(".")[0] != "transformers":
            return
        if any(self._is_root(alias) for alias in node.names):
            yield from self._add("import stepbus", node, part)
        start, end = _span(node, part)
        text = part.text[start:end]
        names = {alias.name for alias in node.names}
        if "*" in names:
            used = self._used_of_star()
            if used:
                line = new_import(
                    used, [""] * len(used), _indent(part, start), newline_of(part.text)
                )
                yield from _insert_after(line, node, part)
        elif names <= MOVES:
            found = _MODULE.search(text)
            if found:
                at = start + found.start() + len(found[1])
                yield Edit(at, start + found.end(), "stepbus")
        elif names & MOVES:
            yield _split_edit(part, start, end)

    def _edits_of_import(self, node: ast.Import, part: Part) -> Iterator[Edit]:
        bound = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        if not bound & self._roots:
            return
        if len(node.names) == 1 and self._is_needless(node.names[0]):
            start, end = _span(node, part)
            yield Edit(start, end, "import stepbus")
        else:
            yield from self._add("import stepbus", node, part)

    def _is_needless(self, alias: ast.alias) -> bool:
        """Whether nothing but what moves is taken from `import transformers`."""
        name = alias.asname or alias.name
        if "." in name:
            return False
        moved = {id(_root(node)) for node in self._moved_attributes}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Name) and node.id == name and id(node) not in moved:
                return False
            if isinstance(node, ast.Constant) and f"{name}." in str(node.value):
                return False
        return True

    def _is_root(self, alias: ast.alias) -> bool:
        return (alias.asname or alias.name) in self._roots

    def _add(self, line: str, node: ast.Import | ast.ImportFrom, part: Part) -> Iterator[Edit]:
        """A line of its own before a statement, or behind it on a line that is shared."""
        if self._has_stepbus():
            return
        start, end = _span(node, part)
        if _is_alone(part.text, start, end):
            newline = newline_of(part.text)
            yield Edit(start, start, f"{line}{newline}{_indent(part, start)}")
        else:
            yield Edit(end, end, f"; {line}")

    def _has_stepbus(self) -> bool:
        return any(
            alias.name == "stepbus" and not alias.asname
            for node in self._tree.body
            if isinstance(node, ast.Import)
            for alias in node.names
        )

    def _find_attributes(self) -> Iterator[ast.Attribute]:
        for node in ast.walk(self._tree):
            if not isinstance(node, ast.Attribute) or node.attr not in MOVES:
                continue
            if (self._names.origin(node) or "").startswith("transformers."):
                yield node

    def _used_of_star(self) -> list[str]:
        return sorted(
            {
                node.id
                for node in ast.walk(self._tree)
                if isinstance(node, ast.Name)
                and node.id in MOVES
                and self._names.origin(node) == f"transformers.{node.id}"
            }
        )


def _split_edit(part: Part, start: int, end: int) -> Edit:
    """The edit of a statement of which some names move and some stay."""
    text, newline = part.text[start:end], newline_of(part.text)
    new = split(text, MOVES)
    if not _is_alone(part.text, start, end):
        return Edit(start, end, f"{new.kept}; from stepbus import {', '.join(new.moved)}")
    indent = _indent(part, start)
    moved = new_import(new.moved, new.comments, indent, newline)
    return Edit(start, end, f"{moved}{newline}{indent}{new.kept}")


def _insert_after(line: str, node: ast.ImportFrom, part: Part) -> Iterator[Edit]:
    start, end = _span(node, part)
    if _is_alone(part.text, start, end):
        at = line_end(part.text, end)
        yield Edit(at, at, f"{newline_of(part.text)}{_indent(part, start)}{line}")
    else:
        yield Edit(end, end, "; " + " ".join(line.split()))


def _edits_of_attribute(node: ast.Attribute, part: Part) -> Iterator[Edit]:
    start, end = _span(node, part)
    # Inside an f-string older Pythons give positions that are not those of the text.
    if re.sub(r"[\s\\]", "", part.text[start:end]) == ast.unparse(node):
        yield Edit(start, end, f"stepbus.{node.attr}")


def _span(node: ast.stmt | ast.expr, part: Part) -> tuple[int, int]:
    return (
        part.offset(node.lineno, node.col_offset),
        part.offset(node.end_lineno or node.lineno, node.end_col_offset or node.col_offset),
    )


def _is_alone(text: str, start: int, end: int) -> bool:
    """Whether a statement has its lines for itself."""
    before = text[line_start(text, start) : start]
    behind = text[end : line_end(text, end)].strip()
    return not before.strip() and (not behind or behind.startswith("#"))


def _indent(part: Part, start: int) -> str:
    before = part.text[line_start(part.text, start) : start]
    return before if not before.strip() else ""


def _root(node: ast.Attribute) -> ast.Name:
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        inner = inner.value
    assert isinstance(inner, ast.Name), "only dotted names have an origin"
    return inner


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", text)


def _check_parses(text: str, source: Source) -> None:
    if source.is_notebook:
        return
    try:
        ast.parse(text)
    except SyntaxError as error:
        raise StepbusError(
            f"{source.name} cannot be rewritten, line {error.lineno}: {error.msg}. It was left as "
            "it is: change its imports by hand."
        ) from None
