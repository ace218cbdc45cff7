"""An import statement that loses the names which move, its comments and layout kept."""

from __future__ import annotations

import re
from typing import NamedTuple

from .edits import line_end, line_start, newline_of

WIDTH = 88
"""Columns beyond which an import gets a line for each name."""

_TOKEN = re.compile(r"#[^\r\n]*|\\(?:\r\n|\r|\n)|[\w.]+|\*|[(),;]")


class Item(NamedTuple):
    """One imported name of a statement, as it is written."""

    name: str
    text: str
    """With its `as`."""
    start: int
    """In the statement's text, as all that follows."""
    end: int
    after: int
    """Where the next item, or the end of the list, begins: past the comma."""


class Split(NamedTuple):
    """What becomes of a mixed statement."""

    kept: str
    moved: list[str]
    """The names, each with its `as`."""
    comments: list[str]
    """What was said behind a name that moves: '' where nothing was."""


def split(text: str, moves: frozenset[str]) -> Split:
    """Splits `from transformers import ...`, of which some names move and some stay."""
    items, is_wrapped = _items(text)
    moved = [item for item in items if item.name in moves]
    comments = [_comment_behind(text, item, items, moves) for item in moved]
    if not is_wrapped or "\\" in text or not re.search(r"[\r\n]", text):
        kept = ", ".join(item.text for item in items if item.name not in moves)
        head = text[: items[0].start].replace("\\", "").rstrip().removesuffix("(").rstrip()
        head = " ".join(head.split())
        bracketed = is_wrapped and "\\" not in text
        rest = f"({kept})" if bracketed else kept
        return Split(f"{head} {rest}", [item.text for item in moved], comments)
    return Split(_without(text, moved), [item.text for item in moved], comments)


def new_import(moved: list[str], comments: list[str], indent: str, newline: str) -> str:
    """`from stepbus import ...` for names that move, one a line where that is too long."""
    line = f"from stepbus import {', '.join(moved)}"
    if not any(comments) and len(indent) + len(line) <= WIDTH:
        return line
    rows = [
        f"{indent}    {name},{f'  {comment}' if comment else ''}"
        for name, comment in zip(moved, comments, strict=True)
    ]
    return newline.join(["from stepbus import (", *rows, f"{indent})"])


def _items(text: str) -> tuple[list[Item], bool]:
    """The names of a statement, and whether they stand in parentheses."""
    tokens = [m for m in _TOKEN.finditer(text) if m[0][0] not in "#\\"]
    start = next(n for n, m in enumerate(tokens) if n and m[0] == "import") + 1
    is_wrapped = tokens[start][0] == "("
    rest = tokens[start + is_wrapped :]
    items: list[Item] = []
    words: list[re.Match[str]] = []
    for token in rest:
        if token[0] not in (",", ")"):
            words.append(token)
            continue
        if words:
            items.append(_item(words, text, token.end() if token[0] == "," else token.start()))
        words = []
    if words:
        items.append(_item(words, text, len(text)))
    return items, is_wrapped


def _item(words: list[re.Match[str]], text: str, after: int) -> Item:
    shown = " ".join(word[0] for word in words)
    return Item(words[0][0], shown, words[0].start(), words[-1].end(), after)


def _comment_behind(text: str, item: Item, items: list[Item], moves: frozenset[str]) -> str:
    """The comment at the end of a line on which all names move, for the last of them."""
    begin, end = line_start(text, item.start), line_end(text, item.after)
    beside = [other for other in items if begin <= other.start < end]
    if begin == 0 or any(other.name not in moves for other in beside):
        return ""
    rest = text[item.after : end].strip()
    return rest if rest.startswith("#") else ""


def _without(text: str, moved: list[Item]) -> str:
    """The text of a statement of several lines without some of its names."""
    newline = newline_of(text)
    closes_alone = re.search(r"[\r\n]\s*\)$", text) is not None
    for item in reversed(moved):
        begin, end = line_start(text, item.start), line_end(text, item.after)
        before, behind = text[begin : item.start], text[item.after : end]
        if not before.strip() and (not behind.strip() or behind.strip().startswith("#")):
            stop = end + len(newline) if text[end : end + len(newline)] == newline else end
            text = text[:begin] + text[stop:]
        else:
            stop = item.after + len(behind) - len(behind.lstrip(" \t"))
            text = text[: item.start] + text[stop:]
    text = re.sub(r"[ \t]+(?=[\r\n])", "", text)
    if not closes_alone:
        text = re.sub(r",\s*\)$", ")", text)
    return text
