"""Progress on a terminal: one live line, with the logs above it."""

from __future__ import annotations

import atexit
import sys
import time
from typing import IO, TextIO

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.live import Live
from rich.text import Text

from ..schemas import Log
from .log_line import LONGEST, log_line
from .progress_figures import Figures
from .progress_plain import is_training_log

BAR_WIDTH = 30
LOG_EVERY_S = 0.5
"""Of the logs of training steps, at most one in so many seconds is shown."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Writes nothing more; rich would end the thread."""
        self.quiet = True


class _AboveTheLine(FileProxy):
    """Takes what is written to a stream; of a bar that redraws itself, its last state alone."""

    def __init__(self, console: Console, file: IO[str]) -> None:
        super().__init__(console, file)
        self._unended = ""

    def write(self, text: str) -> int:
        """Shows whole lines above the live one."""
        super().write(text)
        self._unended = (self._unended + text).rpartition("\n")[2]
        return len(text)

    def flush(self) -> None:
        """Shows an unended line, unless it is to be drawn over."""
        if "\r" not in self._unended:
            super().flush()
            self._unended = ""


class TerminalDisplay:
    """A live line drawn by rich. What is printed meanwhile appears above it."""

    def __init__(self, stream: TextIO, longest: int = LONGEST) -> None:
        self._longest = longest
        self._console = _Console(file=stream, force_terminal=True)
        self._live: Live | None = None
        self._stderr: TextIO | None = None
        self._log_due_at = 0.0

    def begin(self, figures: Figures) -> None:
        """Starts the live line; the cursor is hidden until it ends."""
        self.close()
        atexit.register(self.close)
        self._live = Live(
            self._frame(figures),
            console=self._console,
            auto_refresh=False,
            redirect_stdout=_is_terminal(sys.stdout),
            redirect_stderr=False,
        )
        self._live.start(refresh=True)
        if sys.stderr is not None:
            self._stderr, sys.stderr = sys.stderr, _AboveTheLine(self._console, sys.stderr)

    def update(self, figures: Figures) -> None:
        """Draws the line anew."""
        if self._live is not None:
            self._live.update(self._frame(figures), refresh=True)

    def log(self, event: Log, figures: Figures) -> None:
        """Prints logged values above the line."""
        if is_training_log(event):
            now = time.monotonic()
            if now < self._log_due_at:
                return
            self._log_due_at = now + LOG_EVERY_S
        self.note(log_line(event.step, event.logs, self._longest))

    def note(self, text: str) -> None:
        """Prints a line above the live one."""
        self._console.print(Text(text), soft_wrap=True)

    def end(self, text: str, figures: Figures) -> None:
        """Leaves the last state of the line on the screen; of an evaluation alone, nothing."""
        self.update(figures)
        if self._live is not None:
            self._live.transient = not text
        self.close()
        if text:
            self.note(text)

    def close(self) -> None:
        """Ends the live line and shows the cursor."""
        atexit.unregister(self.close)
        live, self._live = self._live, None
        former, self._stderr = self._stderr, None
        if former is not None and isinstance(sys.stderr, _AboveTheLine):
            sys.stderr = former
        if live is not None:
            live.stop()

    def _frame(self, figures: Figures) -> Text:
        frame = Text(no_wrap=True, overflow="ellipsis")
        if figures.total:
            self._append_bar(frame, figures.done)
        frame.append(figures.count, "bold")
        for part in figures.details():
            frame.append("  ")
            frame.append(part, "yellow" if "data-bound" in part else "")
        if figures.note:
            frame.append(f"\n{figures.note}", "yellow")
        if figures.evaluation:
            frame.append("\nevaluating ", "dim")
            if figures.num_batches:
                self._append_bar(frame, figures.batch / figures.num_batches)
            frame.append(figures.evaluation)
        return frame

    def _append_bar(self, frame: Text, done: float) -> None:
        full, empty = ("#", ".") if self._console.options.ascii_only else ("\u2501", "\u2500")
        width = min(BAR_WIDTH, self._console.width // 3)
        filled = int(width * min(1.0, done))
        frame.append(full * filled, "green")
        frame.append(empty * (width - filled), "dim")
        frame.append(" ")


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False
