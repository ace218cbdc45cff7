"""What is found in a script: one thing that works, differs, is refused, or is not known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What becomes of something that a script says."""

    WORKS = "works"
    WARNS = "warns"
    """It works, with a warning: a name of version 4."""
    DIFFERS = "differs"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that a script says, and what becomes of it."""

    line: int
    """Counted over the whole file; in a notebook over all of its code cells."""
    kind: Kind
    what: str
    """import, argument, method, attribute, override, hook, tracker, ranks, name ..."""
    name: str
    text: str = ""
    """Why, and what to do; short or empty where it works."""


class Findings:
    """Gathers findings; the same one on the same line is kept once."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}

    def add(self, line: int, kind: Kind, what: str, name: str, text: str = "") -> None:
        """Adds one."""
        self._found[Finding(line, kind, what, name, text)] = None

    def works(self, line: int, what: str, name: str, text: str = "") -> None:
        """Adds one that works."""
        self.add(line, Kind.WORKS, what, name, text)

    def warns(self, line: int, what: str, name: str, text: str) -> None:
        """Adds one that works with a warning."""
        self.add(line, Kind.WARNS, what, name, text)

    def differs(self, line: int, what: str, name: str, text: str) -> None:
        """Adds one that works otherwise than in the reference."""
        self.add(line, Kind.DIFFERS, what, name, text)

    def refused(self, line: int, what: str, name: str, text: str) -> None:
        """Adds one that is refused."""
        self.add(line, Kind.REFUSED, what, name, text)

    def unknown(self, line: int, what: str, name: str, text: str) -> None:
        """Adds one that cannot be judged."""
        self.add(line, Kind.UNKNOWN, what, name, text)

    def sorted(self) -> list[Finding]:
        """All of them by line."""
        return sorted(self._found)


def counts(findings: Iterable[Finding]) -> dict[Kind, int]:
    """How many there are of each kind."""
    found = dict.fromkeys(Kind, 0)
    for finding in findings:
        found[finding.kind] += 1
    return found


def as_json(finding: Finding, place: tuple[int | None, int]) -> dict[str, Any]:
    """A finding as plain values.

    Args:
        place: number of the code cell, None outside notebooks, and the line in it.
    """
    cell, line = place
    where = {"line": line} if cell is None else {"cell": cell, "line": line}
    return {
        **where,
        "kind": finding.kind.value,
        "what": finding.what,
        "name": finding.name,
        "text": finding.text,
    }
