"""Progress in a notebook: one table that is kept up to date."""

from __future__ import annotations

import html
import importlib
import sys
import time
from typing import Any

from ..schemas import Log
from .log_line import HIDDEN, LONGEST, shown_value
from .progress_figures import Figures
from .progress_plain import is_training_log

UPDATE_EVERY_S = 0.5
MAX_ROWS = 100
"""Rows of the table that are kept, the newest."""


def in_notebook() -> bool:
    """Whether a kernel runs this process; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _ipython_display() -> Any:
    return importlib.import_module("IPython.display")


class NotebookDisplay:
    """A bar, and a table with a row for each step that was logged."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._handle: Any = None
        self._rows: dict[int, dict[str, str]] = {}
        self._note = ""
        self._due_at = 0.0

    def begin(self, figures: Figures) -> None:
        """Puts the table into the output of the running cell."""
        self._rows, self._note = {}, ""
        ipython = _ipython_display()
        self._handle = ipython.display(ipython.HTML(self._page(figures)), display_id=True)

    def update(self, figures: Figures) -> None:
        """Brings the table up to date, not too often."""
        if time.monotonic() >= self._due_at:
            self._draw(figures)

    def log(self, event: Log, figures: Figures) -> None:
        """Adds the values to the row of their step."""
        row = self._rows.setdefault(event.step, {})
        shown = ((name, value) for name, value in event.logs.items() if name not in HIDDEN)
        row.update({name: shown_value(value, self._longest) for name, value in shown})
        if len(self._rows) > MAX_ROWS:
            del self._rows[next(iter(self._rows))]
        if is_training_log(event):
            self.update(figures)
        else:
            self._draw(figures)

    def note(self, text: str) -> None:
        """Shows a line under the bar, in place of the one before."""
        self._note = text

    def end(self, text: str, figures: Figures) -> None:
        """Shows how it ended."""
        self._note = text
        self._draw(figures)
        self._handle = None

    def close(self) -> None:
        """The table stays as it is."""

    def _draw(self, figures: Figures) -> None:
        self._due_at = time.monotonic() + UPDATE_EVERY_S
        if self._handle is not None:
            self._handle.update(_ipython_display().HTML(self._page(figures)))

    def _page(self, figures: Figures) -> str:
        parts = [figures.count, *figures.details()]
        if figures.evaluation:
            parts.append(f"evaluating {figures.evaluation}")
        bar = f'<progress value="{figures.done:.4f}" max="1"></progress> ' if figures.total else ""
        lines = [f"<div>{bar}{html.escape(', '.join(parts))}</div>"]
        if figures.note:
            lines.append(f"<div>{html.escape(figures.note)}</div>")
        if self._note:
            lines.append(f"<div>{html.escape(self._note)}</div>")
        return "".join([*lines, self._table()]) if self._rows else "".join(lines)

    def _table(self) -> str:
        columns = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        head = "".join(f"<th>{html.escape(name)}</th>" for name in ("step", *columns))
        body = "".join(
            f"<tr><td>{step}</td>"
            + "".join(f"<td>{html.escape(row.get(name, ''))}</td>" for name in columns)
            + "</tr>"
            for step, row in self._rows.items()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
