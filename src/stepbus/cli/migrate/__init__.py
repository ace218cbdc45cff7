"""`stepbus migrate`: what of a script written for transformers' Trainer works, and its imports."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from ...schemas.errors import ArgumentError, StepbusError
from ..exit_codes import FAILED
from ..failure import tell
from ..flags import FlagParser
from .checking import check
from .findings import Kind, counts
from .report import Report, exit_code, print_diff, print_json, print_reports
from .rewriting import Rewriter
from .sources import Source, find_files, read_source

DESCRIPTION = """\
Reads scripts and notebooks that were written for transformers' Trainer, without running them.
--check tells what works with stepbus as it is, what differs and what is refused. Without it, the
change of their imports is printed as a diff; --write makes it."""


def main(words: Sequence[str]) -> int:
    """Checks or rewrites the files; the exit code."""
    given = _parser().parse(words)
    if not given["files"]:
        raise ArgumentError("No file was given: name scripts, notebooks or folders.")
    checks = given["check"] or given["json"]
    if checks and given["write"]:
        raise ArgumentError("--write changes files, --check and --json only look: choose one.")
    files = find_files(given["files"])
    if len(files) == 1:
        reports = [_report(files[0], read_source(files[0]))]
    else:
        reports = [_read(path) for path in files]
    if given["json"]:
        print_json(reports)
    elif checks:
        print_reports(reports)
    else:
        _rewrite(reports, given["write"])
    return exit_code(reports)


def _report(path: Path, source: Source) -> Report:
    return Report(str(path), source, check(source))


def _read(path: Path) -> Report:
    """The report of one file among several; one that cannot be read does not end the rest."""
    try:
        return _report(path, read_source(path))
    except ArgumentError as error:
        tell(error)
        return Report(str(path), None, [], error=str(error))


def _rewrite(reports: list[Report], write: bool) -> None:
    """Prints the change of the imports, or makes it; with an unreadable file nothing is written."""
    if write and any(report.error for report in reports):
        return
    changed = 0
    sources = [report.source for report in reports if report.source and report.findings]
    rewriters = [(source, Rewriter(source)) for source in sources]
    contents = [(source, rewriter.content()) for source, rewriter in rewriters]
    if not write:
        for _, rewriter in rewriters:
            print_diff(rewriter.diff())
    for source, content in contents:
        if content != source.content:
            changed += 1
            if write:
                _write(source, content)
    refused = sum(counts(report.findings)[Kind.REFUSED] for report in reports)
    if write or not changed:
        print(f"{changed} file{'' if changed == 1 else 's'} changed", file=sys.stderr)
    if refused:
        names = "s are" if refused > 1 else " is"
        print(f"{refused} thing{names} refused: see --check", file=sys.stderr)


def _write(source: Source, content: str) -> None:
    try:
        source.path.write_bytes(content.encode(source.encoding))
    except OSError as error:
        raise StepbusError(f"{source.name} cannot be written: {error.strerror}.") from None


def _parser() -> FlagParser:
    parser = FlagParser(
        "stepbus migrate",
        DESCRIPTION,
        usage="stepbus migrate FILE ... [--check | --json | --write]",
        epilog=f"exit codes: 0 nothing is refused, {FAILED} something is, 2 a file is missing or "
        "not Python",
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="scripts, notebooks, folders")
    options = parser.options
    options.add_argument("--check", action="store_true", help="tell what works, change nothing")
    options.add_argument("--json", action="store_true", help="the same for programs")
    options.add_argument("--write", action="store_true", help="change the imports in the files")
    return parser
