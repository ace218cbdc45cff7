"""Scripts and notebooks as they are read: text, syntax tree, and where a line lies."""

from __future__ import annotations

import ast
import io
import os
import re
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...schemas.errors import ArgumentError
from .notebooks import code_cells, without_magics

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


@dataclass(frozen=True)
class Part:
    """A script, or one code cell of a notebook."""

    text: str
    """As it is in the file."""
    tree: ast.Module
    """Line numbers count over the whole file."""
    first_line: int
    lines: list[str] = field(default_factory=list)
    """Of the text, with their ends; split where Python splits them."""

    def holds(self, line: int) -> bool:
        """Whether a line is one of this part's."""
        return self.first_line <= line < self.first_line + max(len(self.lines), 1)

    def offset(self, line: int, column: int) -> int:
        """The index in `text` of a position of the syntax tree (columns are UTF-8 bytes)."""
        number = line - self.first_line
        before = self.lines[number].encode()[:column].decode(errors="ignore")
        return sum(map(len, self.lines[:number])) + len(before)


@dataclass(frozen=True)
class Source:
    """One file that was read and parsed."""

    path: Path
    name: str
    """As the user wrote it."""
    parts: list[Part]
    encoding: str
    content: str
    """The file as text."""
    is_notebook: bool
    magics: list[tuple[int, str]]
    """Magic lines of a notebook, with their numbers."""

    @property
    def tree(self) -> ast.Module:
        """All parts as one module."""
        return ast.Module([node for part in self.parts for node in part.tree.body], [])

    def place(self, line: int) -> tuple[int | None, int]:
        """The number of the code cell, from 1, None in a script; and the line in it."""
        if not self.is_notebook:
            return None, line
        before = [n for n, part in enumerate(self.parts) if part.first_line <= line]
        number = before[-1] if before else 0
        return number + 1, line - self.parts[number].first_line + 1


def find_files(words: Sequence[str]) -> list[Path]:
    """The scripts and notebooks that files and folders stand for, each once.

    Folders are walked; hidden ones, virtual environments and installed packages are left out.

    Raises:
        ArgumentError: no such file, or a folder without any.
    """
    found: dict[Path, None] = {}
    for word in words:
        path = Path(word)
        if path.is_dir():
            inside = list(_walk(path))
            if not inside:
                raise ArgumentError(f"{word} holds no .py and no .ipynb file.")
            found.update(dict.fromkeys(inside))
        elif path.is_file():
            found[path] = None
        else:
            raise ArgumentError(f"There is no file {word}: give scripts, notebooks or folders.")
    return list(found)


def read_source(path: Path) -> Source:
    """One script or notebook, parsed; nothing of it is run.

    Raises:
        ArgumentError: it cannot be read, or is not Python; the message has the line.
    """
    name = str(path)
    content, encoding = _decoded(path)
    if path.suffix.lower() != ".ipynb":
        part = Part(content, _parsed(content, name, 1), 1, _LINE.findall(content))
        return Source(path, name, [part], encoding, content, False, [])
    parts: list[Part] = []
    magics: list[tuple[int, str]] = []
    line = 1
    for number, cell in enumerate(code_cells(content, name), start=1):
        tree, found = _parsed_cell(cell, f"{name}, cell {number}", line)
        lines = _LINE.findall(cell)
        parts.append(Part(cell, tree, line, lines))
        magics += [(line + at - 1, text) for at, text in found]
        line += cell.count("\n") + 1
    return Source(path, name, parts, encoding, content, True, magics)


def _walk(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not (here / name / "pyvenv.cfg").exists()
        )
        yield from (here / name for name in sorted(files) if name.endswith((".py", ".ipynb")))


def _decoded(path: Path) -> tuple[str, str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        encoding = "utf-8"
        if path.suffix.lower() != ".ipynb" or data.startswith(b"\xef\xbb\xbf"):
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding), encoding
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise ArgumentError(f"{path} is not text: {error}.") from None


def _parsed_cell(cell: str, name: str, line: int) -> tuple[ast.Module, list[tuple[int, str]]]:
    code, magics = without_magics(cell)
    if not magics:
        return _parsed(cell, name, line), []
    try:  # A line of a text that only looks like a magic must stay.
        return _parsed(cell, name, line), []
    except ArgumentError:
        return _parsed(code, name, line), magics


def _parsed(code: str, name: str, first_line: int) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code, name)
    except SyntaxError as error:
        raise ArgumentError(f"{name}, line {error.lineno or 1}: not Python: {error.msg}.") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ArgumentError(f"{name}, line 1: not Python: {error}.") from None
    return ast.increment_lineno(tree, first_line - 1)
