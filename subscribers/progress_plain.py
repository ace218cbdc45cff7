"""Progress where there is no terminal: a plain line every so often."""

from __future__ import annotations

import time
from typing import Protocol, TextIO

from ..schemas import Log
from .log_line import LONGEST, log_line
from .progress_figures import Figures


class Display(Protocol):
    """Where progress is shown. Its methods may raise what writing to a closed stream raises."""

    def begin(self, figures: Figures) -> None:
        """A run starts, or an evaluation outside of one."""

    def update(self, figures: Figures) -> None:
        """The figures have changed."""

    def log(self, event: Log, figures: Figures) -> None:
        """Values were logged."""

    def note(self, text: str) -> None:
        """Something happened that is worth a line."""

    def end(self, text: str, figures: Figures) -> None:
        """The run has ended, in these words; empty for an evaluation outside of a run."""

    def close(self) -> None:
        """Leaves the screen as it was found."""


def is_training_log(event: Log) -> bool:
    """Whether these are values of training steps: there may be many, and none is awaited."""
    return not any(name.startswith(("eval_", "test_", "train_")) for name in event.logs)


class PlainDisplay:
    """Lines of text: the figures every `every_s` seconds, evaluations and the end at once."""

    def __init__(self, stream: TextIO, every_s: float, longest: int = LONGEST) -> None:
        self._stream = stream
        self._every_s = every_s
        self._longest = longest
        self._due_at = 0.0

    def begin(self, figures: Figures) -> None:
        """Says what begins."""
        self._due_at = time.monotonic() + self._every_s
        if figures.total:
            self.note(f"training from step {figures.step:,} to {figures.total:,}")

    def update(self, figures: Figures) -> None:
        """Prints the figures when they are due."""
        now = time.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + self._every_s
        evaluating = [f"evaluating {figures.evaluation}"] if figures.evaluation else []
        done = [f"{figures.done:.0%}".replace("%", " %")] if figures.total else []
        parts = [f"step {figures.count}", *done, *evaluating, *figures.details()]
        self.note("  ".join([*parts, figures.note] if figures.note else parts))

    def log(self, event: Log, figures: Figures) -> None:
        """Prints the results of an evaluation and the closing figures."""
        if is_training_log(event):
            self.update(figures)
        else:
            self.note(log_line(event.step, event.logs, self._longest))

    def note(self, text: str) -> None:
        """Prints a line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def end(self, text: str, figures: Figures) -> None:
        """Prints how it ended."""
        if text:
            self.note(text)

    def close(self) -> None:
        """Nothing to put back."""
