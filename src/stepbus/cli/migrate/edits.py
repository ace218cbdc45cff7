"""Changes to a text that leave all else of it as it was."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Edit(NamedTuple):
    """Replaces `text[start:end]`."""

    start: int
    end: int
    new: str


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text with all edits made; of two that overlap, the one that begins later is left out."""
    done: list[str] = []
    at = 0
    for edit in sorted(set(edits)):
        if edit.start < at:
            continue
        done += [text[at : edit.start], edit.new]
        at = edit.end
    return "".join([*done, text[at:]])


def line_end(text: str, start: int) -> int:
    """The index where the line of `start` ends, its end of line left out."""
    ends = [at for at in (text.find("\n", start), text.find("\r", start)) if at >= 0]
    return min(ends, default=len(text))


def line_start(text: str, end: int) -> int:
    """The index where the line of `end` begins."""
    return max(text.rfind("\n", 0, end), text.rfind("\r", 0, end)) + 1


def newline_of(text: str) -> str:
    """The end of line that a text uses."""
    end = line_end(text, 0)
    if text[end : end + 2] == "\r\n":
        return "\r\n"
    return text[end : end + 1] or "\n"
