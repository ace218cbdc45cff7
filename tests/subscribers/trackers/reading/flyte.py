"""What stands in a deck that Flyte has written."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple


class ShownRun(NamedTuple):
    """One of stepbus's decks."""

    rows: list[dict[str, str]]
    """A row for each log; cells without a value left out."""
    status: dict[str, str]
    params: dict[str, str]


class Tables(HTMLParser):
    """Takes stepbus's tables out of a page, and the names of its decks."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.names: list[str] = []
        self.tables: list[tuple[str, list[list[str]]]] = []
        self._in = self._last = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        kind = str(dict(attrs).get("class", ""))
        if tag == "table":
            self._in = kind if kind.startswith("stepbus-") else ""
            if self._in:
                self.tables.append((kind.removeprefix("stepbus-"), []))
        elif tag == "li":
            self.names.append("")
        elif self._in and tag == "tr":
            self.tables[-1][1].append([])
        elif self._in and tag in ("td", "th"):
            self.tables[-1][1][-1].append("")
        self._last = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self._in = ""
        self._last = ""

    def handle_data(self, data: str) -> None:
        if self._last == "li":
            self.names[-1] += data
        elif self._in and self._last in ("td", "th"):
            self.tables[-1][1][-1][-1] += data

    @property
    def runs(self) -> list[ShownRun]:
        """The decks of runs, in their order."""
        found = []
        for at in range(0, len(self.tables), 3):
            (_, (names, *rows)), (_, (keys, values)), (_, params) = self.tables[at : at + 3]
            found.append(
                ShownRun(
                    [
                        {name: cell for name, cell in zip(names, row, strict=True) if cell}
                        for row in rows
                    ],
                    dict(zip(keys, values, strict=True)),
                    {cells[0]: cells[1] for cells in params[1:]},
                )
            )
        return found
