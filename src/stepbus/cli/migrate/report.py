"""What is told of each file: grouped lines on a terminal and in a pipe, or JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..exit_codes import BAD_INPUT, FAILED, FINISHED
from .findings import Finding, Kind, as_json, counts
from .imported import MOVE, OURS, STAY
from .sources import Source

STYLES = {
    Kind.WORKS: "green",
    Kind.WARNS: "cyan",
    Kind.DIFFERS: "yellow",
    Kind.REFUSED: "bold red",
    Kind.UNKNOWN: "magenta",
}
PIPE_WIDTH = 100
_ORDER = [Kind.WARNS, Kind.DIFFERS, Kind.UNKNOWN, Kind.REFUSED]
_PLURALS = {"import": "imports", "argument": "arguments", "method": "methods", "hook": "hooks"}


@dataclass(frozen=True)
class Report:
    """One file and what was found in it, or why it could not be read."""

    name: str
    source: Source | None
    findings: list[Finding]
    error: str = ""


def exit_code(reports: list[Report]) -> int:
    """2 when a file could not be read, 1 when something is refused, else 0."""
    if any(report.error for report in reports):
        return BAD_INPUT
    refused = sum(counts(report.findings)[Kind.REFUSED] for report in reports)
    return FAILED if refused else FINISHED


def verdict(reports: list[Report]) -> str:
    """One line: whether the scripts can move, and what stands in the way."""
    totals = counts(finding for report in reports for finding in report.findings)
    if not any(totals.values()):
        return "nothing here uses the trainer of transformers: there is nothing to change"
    notes = [
        f"{totals[kind]} {word}"
        for kind, word in (
            (Kind.DIFFERS, "differ" if totals[Kind.DIFFERS] > 1 else "differs"),
            (Kind.WARNS, "warn" if totals[Kind.WARNS] > 1 else "warns"),
            (Kind.UNKNOWN, "not known"),
        )
        if totals[kind]
    ]
    rest = f" ({', '.join(notes)})" if notes else ""
    if totals[Kind.REFUSED]:
        return f"{totals[Kind.REFUSED]} refused: change these before it runs with stepbus{rest}"
    moves = any(finding.text == MOVE for report in reports for finding in report.findings)
    change = ", only the imports change" if moves else ""
    return f"ready: nothing is refused{change}{rest}"


def print_json(reports: list[Report]) -> None:
    """The whole report for programs."""
    document = {
        "files": [_json_of(report) for report in reports],
        "verdict": verdict(reports),
        "exit_code": exit_code(reports),
    }
    print(json.dumps(document, indent=2))


def print_reports(reports: list[Report]) -> None:
    """The whole report for people; of several files those that use the trainer."""
    console = _console()
    for report in reports:
        if report.source and (report.findings or len(reports) == 1):
            _print_report(report, report.source, console)
    read = [report for report in reports if report.source]
    if len(reports) > 1:
        used = sum(bool(report.findings) for report in read)
        console.print(Text(f"{len(read)} files, {used} with transformers' trainer or stepbus"))
    if read:
        style = STYLES[Kind.REFUSED] if exit_code(read) else STYLES[Kind.WORKS]
        console.print(Text(verdict(read), style=style))


def print_diff(diff: str) -> None:
    """A unified diff, in colours on a terminal."""
    console = _console()
    if not console.is_terminal:
        print(diff, end="")
        return
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in diff.splitlines():
        console.print(Text(line, style=styles.get(line[:1], "")), soft_wrap=True)


def _json_of(report: Report) -> dict[str, Any]:
    if report.source is None:
        return {"path": report.name, "error": report.error}
    place = report.source.place
    return {
        "path": report.name,
        "counts": {kind.value: number for kind, number in counts(report.findings).items()},
        "findings": [as_json(finding, place(finding.line)) for finding in report.findings],
    }


def _print_report(report: Report, source: Source, console: Console) -> None:
    console.print(Text(report.name, style="bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold", ratio=None)
    table.add_column(overflow="fold", ratio=1)
    label = "works"
    for group, names in _works(report.findings).items():
        table.add_row(_label(Kind.WORKS, label), "", group, ", ".join(names))
        label = ""
    for kind in _ORDER:
        label = kind.value
        for finding in report.findings:
            if finding.kind is kind:
                where = _where(source, finding.line)
                table.add_row(_label(kind, label), where, Text(finding.name), Text(finding.text))
                label = ""
    console.print(table)
    console.print()


def _works(findings: list[Finding]) -> dict[str, list[str]]:
    """The names that work, by what they are, each once."""
    groups: dict[str, dict[str, None]] = {}
    for finding in findings:
        if finding.kind is Kind.WORKS:
            group = finding.text if finding.text in (MOVE, OURS, STAY) else ""
            group = group or _PLURALS.get(finding.what, f"{finding.what}s")
            groups.setdefault(group, {})[finding.name] = None
    return {group: list(names) for group, names in sorted(groups.items())}


def _label(kind: Kind, text: str) -> Text:
    return Text(f"  {text:8}", style=STYLES[kind])


def _where(source: Source, line: int) -> str:
    cell, number = source.place(line)
    return f"line {number}" if cell is None else f"cell {cell}, line {number}"


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, PIPE_WIDTH)
    return console
