"""Shows how far a run is, wherever it runs: a terminal, a notebook, a file."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import ClassVar, Literal, TextIO

from ..bus.built_in import BuiltInCallback
from ..bus.ledger import LedgerRow
from ..bus.shapes import both_shapes
from ..bus.subscriber import on
from ..bus.trouble import note
from ..schemas import (
    Evaluate,
    Log,
    Predict,
    PredictionStep,
    RunFailed,
    Save,
    StepEnd,
    TrainBegin,
    TrainEnd,
    TrainingEvent,
    Verdict,
)
from ..schemas.errors import ArgumentError
from .log_line import LONGEST, clock_text
from .progress_figures import Figures
from .progress_notebook import NotebookDisplay, in_notebook
from .progress_plain import Display, PlainDisplay

REFRESH_S = 0.1
LEDGER_EVERY_S = 1.0

DisplayName = Literal["auto", "terminal", "plain", "notebook", "off"]


class ProgressCallback(BuiltInCallback):
    """Step, loss, rate, time left, the share of waiting for data, and what is off.

    That is a subscriber that falls behind, has lost events, is quarantined or stuck.

    On a terminal one live line with the logs above it, in a notebook one table that is kept up to
    date, anywhere else a plain line every so often. It goes to standard error, so that standard
    output stays the program's own. Steps are looked at ten times a second at most.

    Args:
        max_str_len: characters of a logged string that are shown, at least 1.
        display: how to show it; "auto" finds out.
        stream: where to, other than standard error.
        every_s: seconds between plain lines.
        ledger: tells what the subscribers of the bus cost (`lambda: bus.ledger`); without it no
            such note is shown. May be assigned later.

    Raises:
        ArgumentError: an unknown display, or a length or time that is not positive.
    """

    reports: ClassVar[bool] = False

    def __init__(
        self,
        max_str_len: int = LONGEST,
        *,
        display: DisplayName = "auto",
        stream: TextIO | None = None,
        every_s: float = 10.0,
        ledger: Callable[[], Iterable[LedgerRow]] | None = None,
    ) -> None:
        if display not in ("auto", "terminal", "plain", "notebook", "off"):
            raise ArgumentError(
                f"ProgressCallback(display={display!r}): give 'auto', 'terminal', 'plain', "
                "'notebook' or 'off'."
            )
        if not every_s > 0:
            raise ArgumentError(f"ProgressCallback(every_s={every_s!r}): give seconds above 0.")
        if isinstance(max_str_len, bool) or not isinstance(max_str_len, int) or max_str_len < 1:
            raise ArgumentError(
                f"ProgressCallback(max_str_len={max_str_len!r}): give a whole number of "
                "characters, at least 1."
            )
        self.max_str_len = max_str_len
        self.ledger = ledger
        self._chosen = display
        self._stream = stream
        self._every_s = every_s
        self._run_id: str | None = None
        self._figures = Figures()
        self._display: Display | None = None
        self._ledger_due_at = 0.0

    @both_shapes
    def on_train_begin(self, event: TrainBegin) -> None:
        """Starts the display of a run."""
        if event.rank == 0:
            self._begin(event, event.max_steps)
            if event.reporting:
                self._try(lambda display: display.note(event.reporting))

    @both_shapes
    @on(interval_s=REFRESH_S)
    def on_step_end(self, event: StepEnd) -> None:
        """Shows the step."""
        if self._shows(event):
            self._figures.step_end(event)
            self._update()

    @both_shapes
    @on(interval_s=REFRESH_S)
    def on_prediction_step(self, event: PredictionStep) -> None:
        """Shows how far an evaluation is."""
        if self._display is None and event.rank == 0:
            self._begin(event, 0)
        if self._shows(event):
            self._figures.prediction_step(event)
            self._update()

    @both_shapes
    def on_log(self, event: Log) -> None:
        """Shows logged values."""
        if self._shows(event):
            self._figures.log(event)
            self._try(lambda display: display.log(event, self._figures))

    @both_shapes
    def on_evaluate(self, event: Evaluate) -> None:
        """The evaluation is over."""
        self._paused(event)

    @both_shapes
    def on_predict(self, event: Predict) -> None:
        """The prediction is over."""
        self._paused(event)

    @both_shapes
    def on_save(self, event: Save) -> None:
        """Tells of the checkpoint."""
        if self._shows(event):
            self._figures.paused(event)
            self._note(f"step {event.step}  saved {event.path}")

    @both_shapes
    def on_verdict(self, event: Verdict) -> None:
        """Tells who had the run do something."""
        voters = event.vetoes if event.outcome == "vetoed" else event.votes
        if self._shows(event) and voters:
            why = ", ".join(f"{v.voter} ({v.reason})" if v.reason else v.voter for v in voters)
            self._note(f"step {event.acted_at}  {event.action} {event.outcome}: {why}")

    @both_shapes
    def on_train_end(self, event: TrainEnd) -> None:
        """Ends the display."""
        why = f" by {event.stopped_by or 'a vote'}" if event.status == "stopped" else ""
        self._end(event, f"{event.status}{why}: {self._done(event)}")

    @both_shapes
    def on_run_failed(self, event: RunFailed) -> None:
        """Ends the display."""
        self._end(event, f"failed after {self._done(event)}: {event.error}: {event.message}")

    def close(self) -> None:
        """Leaves the screen as it was found, also when the run has not said that it ended."""
        self._try(lambda display: display.close())
        self._display = None

    def _begin(self, event: TrainingEvent, total: int) -> None:
        self.close()
        self._run_id = event.run_id
        self._figures = Figures(event.step, total, event.monotonic)
        self._display = self._new_display()
        self._try(lambda display: display.begin(self._figures))

    def _end(self, event: TrainingEvent, text: str) -> None:
        if self._shows(event):
            figures = self._figures
            figures.step, figures.batch, figures.note, figures.over = event.step, 0, "", True
            self._try(lambda display: display.end(text, self._figures))
            self._display = None

    def _paused(self, event: Evaluate | Predict) -> None:
        if not self._shows(event):
            return
        self._figures.paused(event)
        if self._figures.total:
            self._update()
        else:
            self._try(lambda display: display.end("", self._figures))
            self._display = None

    def _done(self, event: TrainingEvent) -> str:
        took = clock_text(event.monotonic - self._figures.began)
        return f"{event.step:,} steps, {took} in this attempt"

    def _shows(self, event: TrainingEvent) -> bool:
        return self._display is not None and event.run_id == self._run_id

    def _update(self) -> None:
        now = time.monotonic()
        if self.ledger is not None and now >= self._ledger_due_at:
            self._ledger_due_at = now + LEDGER_EVERY_S
            own = self.subscriber_name
            self._figures.note = note(row for row in self.ledger() if row.subscriber != own)
        self._try(lambda display: display.update(self._figures))

    def _note(self, text: str) -> None:
        self._try(lambda display: display.note(text))

    def _try(self, show: Callable[[Display], None]) -> None:
        """Shows something; where the stream is gone, nothing is shown from then on."""
        if self._display is None:
            return
        try:
            show(self._display)
        except (OSError, ValueError) as error:
            if isinstance(error, ValueError) and not getattr(self._output(), "closed", False):
                raise
            with contextlib.suppress(OSError, ValueError):
                self._display.close()
            self._display = None

    def _output(self) -> TextIO | None:
        return self._stream if self._stream is not None else sys.stderr

    def _new_display(self) -> Display | None:
        stream, chosen = self._output(), self._chosen
        if chosen == "off":
            return None
        if chosen == "notebook" or (chosen == "auto" and self._stream is None and in_notebook()):
            return NotebookDisplay(self.max_str_len)
        if stream is None or stream.closed:
            return None
        if chosen == "terminal" or (chosen == "auto" and _can_redraw(stream)):
            from .progress_terminal import TerminalDisplay

            return TerminalDisplay(stream, self.max_str_len)
        return PlainDisplay(stream, self._every_s, self.max_str_len)


def _can_redraw(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
