"""Notebooks: their code cells as Python, and changed cells put back where they were."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...schemas.errors import ArgumentError

_MAGIC = re.compile(r"^(\s*)([%!?].*|[\w.]+\?{1,2}\s*)$")
_ASSIGNED = re.compile(r"^(\s*[\w\s,.]*=\s*)([%!].*)$")
_CELL_OF_PYTHON = re.compile(r"^%%(time|timeit|capture|prun|python3?|debug)\b")
_STYLES: tuple[dict[str, Any], ...] = (
    {"indent": 1, "ensure_ascii": False},
    {"indent": 1},
    {"indent": 2, "ensure_ascii": False},
    {"indent": 2},
    {"indent": 4},
    {"ensure_ascii": False, "separators": (",", ":")},
    {"ensure_ascii": False},
    {},
)


def code_cells(text: str, name: str) -> list[str]:
    """The text of each code cell of a notebook, in order.

    Raises:
        ArgumentError: the text is no notebook.
    """
    return [_text_of(cell) for cell in _cells(_loaded(text, name), name)]


def with_cells(text: str, name: str, changed: Mapping[int, str]) -> str:
    """The notebook with the text of some code cells changed, all else as it was.

    Args:
        changed: new texts by the number of the code cell, from 0.
    """
    document = _loaded(text, name)
    style = next((s for s in _STYLES if _dumped(document, text, s) == text), _STYLES[0])
    cells = _cells(document, name)
    for number, new in changed.items():
        key = "source" if "source" in cells[number] else "input"
        as_list = isinstance(cells[number].get(key), list)
        cells[number][key] = new.splitlines(keepends=True) if as_list else new
    return _dumped(document, text, style)


def without_magics(cell: str) -> tuple[str, list[tuple[int, str]]]:
    """A cell as plain Python with as many lines, and its magic lines with their numbers from 1.

    A line of a magic becomes `pass`; a cell that is not Python becomes empty.
    """
    lines = cell.split("\n")
    first = next((n for n, line in enumerate(lines) if line.strip()), 0)
    magics: list[tuple[int, str]] = []
    if lines[first].startswith("%%"):
        magics.append((first + 1, lines[first]))
        if not _CELL_OF_PYTHON.match(lines[first]):
            magics += [(n + 1, line) for n, line in enumerate(lines) if n > first]
            return "\n" * (len(lines) - 1), magics
        lines[first] = ""
    number = 0
    while number < len(lines):
        number = _plain(lines, number, magics) + 1
    return "\n".join(lines), magics


def _plain(lines: list[str], number: int, magics: list[tuple[int, str]]) -> int:
    """Replaces a magic that begins on this line; the number of its last line."""
    whole, assigned = _MAGIC.match(lines[number]), _ASSIGNED.match(lines[number])
    if not whole and not assigned:
        return number
    magics.append((number + 1, lines[number].strip()))
    going_on = lines[number].rstrip().endswith("\\")
    lines[number] = f"{whole[1]}pass" if whole else f"{assigned[1]}None" if assigned else ""
    while going_on and number + 1 < len(lines):
        number += 1
        magics.append((number + 1, lines[number].strip()))
        going_on = lines[number].rstrip().endswith("\\")
        lines[number] = ""
    return number


def _loaded(text: str, name: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{name} is no notebook: {error}.") from None
    if not isinstance(document, dict):
        raise ArgumentError(f"{name} is no notebook: it holds no cells.")
    return document


def _cells(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    sheets = document.get("worksheets")
    holders: Iterable[Any] = sheets if isinstance(sheets, list) else [document]
    found: list[dict[str, Any]] = []
    for holder in holders:
        cells = holder.get("cells") if isinstance(holder, dict) else None
        if not isinstance(cells, list):
            raise ArgumentError(f"{name} is no notebook: it holds no cells.")
        found += [c for c in cells if isinstance(c, dict) and c.get("cell_type") == "code"]
    return found


def _text_of(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    return "".join(map(str, source)) if isinstance(source, list) else str(source)


def _dumped(document: dict[str, Any], like: str, style: dict[str, Any]) -> str:
    tail = like[len(like.rstrip()) :]
    return json.dumps(document, **style) + tail
