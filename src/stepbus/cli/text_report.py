"""What a text run tells at its beginning and its end."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ..bus import Ledger, LedgerRow
from ..bus.ledger_table import LEFT, columns
from .failure import DEBUG

if TYPE_CHECKING:
    from ..engine.text.job import TextJob

EXTRA = "pip install 'stepbus[demo]'"
SIDE_BY_SIDE_FROM = 90
"""Terminal columns from which two samples are shown side by side."""


class Report:
    """Tells about one text job.

    Args:
        command: the command line that the run is gone on with, less its flags.
    """

    def __init__(self, console: Console, job: TextJob, command: str) -> None:
        self._console = console
        self._job = job
        self._folder = Path(job.args.output_dir)
        self._resume = f"{command} --resume --output-dir {shlex.quote(str(self._folder))}"

    def opening(self, left_out: Sequence[str]) -> None:
        """What is about to run, on what, and where to."""
        job, args, corpus = self._job, self._job.args, self._job.corpus
        source = ", ".join(Path(name).name for name in args.files) or "Python's own help text"
        num_characters = len(corpus.train_ids) + len(corpus.heldout_ids)
        text = f"{source}: {num_characters:,} characters, {len(corpus.vocabulary)} different"
        shape = f"{args.num_layers} layer{'s' * (args.num_layers > 1)} of width {args.width}"
        size = f"{job.model.num_parameters:,} parameters, on {job.device}"
        folder = shlex.quote(str(self._folder))
        goal = f"into {self._folder}/"
        if args.resume_from_checkpoint:
            goal = f"going on in {self._folder}/"
        rows = [
            ("text", f"{text}; the last tenth is held out"),
            ("model", f"a GPT over characters, {shape}, {size}"),
            ("run", f"{job.num_steps:,} steps, {goal}"),
            ("steer", f"stepbus vote {folder} save --reason 'a look at it'"),
            ("stop", "Ctrl-C saves, stops and says how to go on"),
        ]
        if left_out:
            rows.append(("left out", f"{' and '.join(left_out)}: {EXTRA}"))
        self._pairs(rows)

    def closing(self, before: str, after: str, wall_s: float) -> None:
        """The samples, what ran, what it cost, where everything is, how to go on."""
        self._console.print()
        self._samples(before, after)
        self._console.print(ledger_table(self._ledger()))
        self._pairs([*self._outcome(wall_s), *self._files()])

    def stopped(self, by: str) -> None:
        """That a signal stopped the run, and how to go on."""
        checkpoints = self._checkpoints()
        step = self._job.run.state.global_step
        if not checkpoints:
            self._line(f"stopped by {by} at step {step}; there is no checkpoint to go on from")
            return
        self._line(f"stopped by {by} at step {step} and saved: {checkpoints[-1]}")
        self._line(f"go on with: {self._resume}")

    def after_failure(self) -> None:
        """How to go on after a failure, if there is something to go on from."""
        if self._checkpoints():
            self._line(f"go on from {self._checkpoints()[-1]} with: {self._resume}")
        self._line(f"{DEBUG}=1 shows the traceback")

    def undelivered(self) -> list[LedgerRow]:
        """The subscribers that did not get, or could not handle, what they should have had."""
        return [row for row in self._ledger() if lost(row)]

    def _outcome(self, wall_s: float) -> list[tuple[str, str]]:
        job, summary = self._job, self._job.run.summary
        assert summary is not None
        why = f" ({summary.reason})" if summary.reason else ""
        done = "up to step {:,}" if job.args.resume_from_checkpoint else "{:,} steps"
        took = f"{done.format(summary.global_step)} in {summary.runtime_s:.1f} s"
        if not job.started:
            took = f"nothing was left to train after step {summary.global_step:,}"
        rows = [(summary.status + why, f"{took}; {wall_s:.1f} s with set-up and samples")]
        scores = [row for row in job.run.state.log_history if "eval_loss" in row]
        if scores:
            last = scores[-1]
            text = f"{last['eval_loss']:.4f} nats per character on the held-out text"
            text += "" if last["step"] == summary.global_step else f", at step {last['step']:,}"
            first = scores[0]
            if first != last:
                text += f" ({first['eval_loss']:.4f} at step {first['step']:,})"
            rows.append(("loss", text))
        return rows

    def _files(self) -> list[tuple[str, str]]:
        folder, summary = self._folder, self._job.run.summary
        assert summary is not None
        rows = [("run folder", str(folder.resolve()))]
        best = summary.best_checkpoint
        names = [
            Path(path).name + (" (best)" if path == best else "") for path in summary.checkpoints
        ]
        if names:
            rows.append(("checkpoints", ", ".join(names)))
        found = [
            name
            for name in ("history.csv", "history.jsonl", "loss_curve.png")
            if (folder / name).exists()
        ]
        rows.append(("logs", ", ".join(found)))
        if "tensorboard" in summary.trackers:
            rows.append(("TensorBoard", f"tensorboard --logdir {shlex.quote(str(folder))}"))
        others = [name for name in summary.trackers if name != "tensorboard"]
        if others:
            rows.append(("trackers", ", ".join(others)))
        longer = f"{self._resume} --max-steps {2 * max(1, summary.global_step)}"
        rows.append(("train longer", longer))
        if not self._job.args.files:
            rows.append(("your own text", "stepbus train FILE..."))
        return rows

    def _samples(self, before: str, after: str) -> None:
        late = sample_panel("what the trained model writes", after)
        if not before:
            self._console.print(late)
            return
        early = sample_panel("before", before)
        late.title = "after"
        if self._console.width < SIDE_BY_SIDE_FROM:
            self._console.print(early, late, sep="\n")
            return
        pair = Table.grid(expand=True, padding=(0, 1))
        pair.add_column(ratio=1, overflow="fold")
        pair.add_column(ratio=1, overflow="fold")
        pair.add_row(early, late)
        self._console.print(pair)

    def _pairs(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and what they stand for; what is to be copied is never broken."""
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            line = Text.assemble((f"{name:>{width}}", "bold cyan"), f"  {text}")
            self._console.print(line, soft_wrap=True)

    def _line(self, text: str) -> None:
        self._console.print(Text(text), soft_wrap=True)

    def _checkpoints(self) -> tuple[str, ...]:
        summary = self._job.run.summary
        return summary.checkpoints if summary is not None else ()

    def _ledger(self) -> Ledger:
        summary = self._job.run.summary
        return summary.ledger if summary is not None else Ledger()


def sample_panel(title: str, text: str) -> Panel:
    """Written text in a frame; what a terminal would obey is shown as a dot."""
    shown = "".join(char if char.isprintable() or char == "\n" else "\u00b7" for char in text)
    return Panel(
        Text(shown, overflow="fold"),
        title=title,
        title_align="left",
        border_style="dim",
        box=box.ROUNDED,
    )


def lost(row: LedgerRow) -> int:
    """Events that a subscriber should have had and did not get or could not handle."""
    return row.num_dropped + row.failures


def ledger_table(ledger: Ledger) -> Table:
    """What each subscriber cost; columns of noughts are left out."""
    table = Table(
        title="what each subscriber cost", title_justify="left", title_style="bold", box=box.SIMPLE
    )
    found = columns(ledger.rows)
    for title in found:
        table.add_column(title, justify="left" if title in LEFT else "right")
    for cells in zip(*found.values(), strict=True):
        table.add_row(*map(Text, cells))
    return table
