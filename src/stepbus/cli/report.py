"""`stepbus report RUN_DIR`: what a training that has ended cost, and who was off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ..bus.ledger_file import LedgerFile, read_ledger
from ..bus.ledger_table import duration
from ..schemas.errors import ArgumentError
from .exit_codes import FINISHED
from .flags import FlagParser
from .run_folder import last_attempt
from .text_report import ledger_table

DESCRIPTION = """\
Prints what the last training that ended in RUN_DIR cost its training thread, and what each of its
subscribers did, as a table. It is read from RUN_DIR/ledger.json."""


def main(words: Sequence[str]) -> int:
    """Prints the ledger; the exit code."""
    parser = FlagParser("stepbus report", DESCRIPTION, usage="stepbus report RUN_DIR [--json]")
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder that the run wrote to")
    parser.options.add_argument("--json", action="store_true", help="print the file, for programs")
    given = parser.parse(words)
    folder = Path(given["run_dir"])
    if not folder.is_dir():
        raise ArgumentError(f"There is no run folder {str(folder)!r}: give the run's output_dir.")
    document = read_ledger(folder)
    if given["json"]:
        print(document.model_dump_json(indent=2))
        return FINISHED
    _print(document, later_attempt(folder, document))
    return FINISHED


def later_attempt(folder: Path, document: LedgerFile) -> str:
    """A line about an attempt that was started after the one of the ledger; empty without one."""
    last, run = last_attempt(folder), document.ledger.run
    if last is None or run is None or last == (run.run_id, run.attempt):
        return ""
    run_id, attempt = last
    return f"attempt {attempt} of run {run_id} was started since: it runs, or was killed"


def _print(document: LedgerFile, later: str) -> None:
    console = Console(highlight=False)
    why = f" ({document.reason})" if document.reason else ""
    took = duration(document.runtime_s)
    lines = [f"{document.status}{why} at step {document.global_step:,}, after {took}"]
    lines += [later] if later else []
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    ledger = document.ledger
    if not console.is_terminal:
        print(ledger)
        return
    for line in ledger.run_lines:
        console.print(Text(line), soft_wrap=True)
    console.print(ledger_table(ledger))
    for line in ledger.troubles:
        console.print(Text(line, style="yellow"), soft_wrap=True)
