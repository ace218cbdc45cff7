"""`stepbus bench`: what a subscriber or a callback costs the step, and where it should run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ...schemas.errors import ArgumentError
from ..exit_codes import FAILED, FINISHED
from ..flags import FlagParser

if TYPE_CHECKING:
    from .measuring import Outcome
    from .report import Report

DESCRIPTION = """\
Measures what a subscriber or a callback costs a training step: inline, in a thread, in a process,
beside a loop written by hand that does the same work, step for step in turns. Says in one line
where it should run. Needs nothing but stepbus, and ends within two minutes."""

STEP_MS = (0.4, 5.0)
SECONDS = 90.0
MOST_SECONDS = 3600.0


def main(words: Sequence[str]) -> int:
    """Measures, prints, judges; the exit code."""
    given = _parser().parse(words)
    step_ms = _step_ms(given["step_ms"])
    seconds = _number("--seconds", given["seconds"], 1.0, MOST_SECONDS)
    logging_steps = int(_number("--logging-steps", given["logging_steps"], 1, 10**6))
    most = given["max_ratio"]
    max_ratio = None if most is None else _number("--max-ratio", most, 0.0, 1e6)
    if given["subscriber"] and given["callback"]:
        raise ArgumentError("--subscriber and --callback were both given: measure one at a time.")
    target = given["subscriber"] or given["callback"]
    if not target:
        raise ArgumentError("Nothing was named: --subscriber my:Logger or --callback my:Callback.")
    # As `python -m`: what people name lies where they are.
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - an entry of sys.path is a str
    from .subject import WHERE, Subject, refusals

    subject = Subject(
        target,
        "subscriber" if given["subscriber"] else "callback",
        _arguments(given["kwargs"]),
        given["event"] or "",
    )
    usual = subject.usual(subject.make())
    judged = given["delivery"] or usual
    if judged not in WHERE:
        raise ArgumentError(f"--delivery {judged}: give one of {', '.join(WHERE)}.")
    refused = refusals(subject)
    if judged in refused:
        raise ArgumentError(f"{target} cannot run {judged}: {refused[judged]}")
    from .measuring import run
    from .report import Report

    with _Progress(quiet=given["json"]) as tell:
        outcome: Outcome = run(
            subject,
            [where for where in WHERE if where not in refused],
            step_ms,
            seconds=seconds,
            logging_steps=logging_steps,
            tell=tell,
        )
    report = Report(subject, outcome, usual, refused, judged, max_ratio, logging_steps)
    return _print(report, as_json=given["json"])


def _print(report: Report, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        report.print()
    return FAILED if report.is_over else FINISHED


class _Progress:
    """Says on standard error what is being done: one live line on a terminal, else plain lines."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status = None
        if self._console.is_terminal and not quiet:
            self._status = self._console.status("")
        self._quiet = quiet

    def __enter__(self) -> Callable[[str], None]:
        if self._status is not None:
            self._status.start()
        return self._tell

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def _tell(self, text: str) -> None:
        if self._status is not None:
            self._status.update(text)
        elif not self._quiet:
            print(f"stepbus bench: {text}", file=sys.stderr, flush=True)


def _parser() -> FlagParser:
    parser = FlagParser(
        "stepbus bench",
        DESCRIPTION,
        usage="stepbus bench --subscriber MODULE:NAME [--flag VALUE ...]",
        epilog=f"exit codes: 0 measured, {FAILED} over --max-ratio, 2 bad arguments",
    )
    options = parser.options
    options.add_argument(
        "--subscriber", metavar="MODULE:NAME", help="a Subscriber's class, or a function"
    )
    options.add_argument(
        "--callback", metavar="MODULE:NAME", help="a callback of Hugging Face's shape"
    )
    options.add_argument("--kwargs", metavar="JSON", help="what its class is made with")
    options.add_argument("--event", metavar="EVENT", help="what a function takes, such as step_end")
    options.add_argument(
        "--step-ms",
        metavar="MS",
        action="append",
        help="length of a step, ms; may be given several times [0.4 and 5]",
    )
    options.add_argument(
        "--logging-steps", metavar="N", default="1", help="steps between two logs [1]"
    )
    options.add_argument(
        "--seconds",
        metavar="S",
        default=str(SECONDS),
        help=f"how long to measure, everything in [{SECONDS:g}]",
    )
    options.add_argument(
        "--max-ratio",
        metavar="X",
        help="fail where the median step takes more than X times a raw one, by more than the "
        "control could show by chance",
    )
    options.add_argument(
        "--delivery",
        metavar="WHERE",
        help="which place --max-ratio judges: inline, thread or process [its own default]",
    )
    options.add_argument("--json", action="store_true", help="print all figures as JSON")
    return parser


def _step_ms(given: list[str] | None) -> list[float]:
    if given is None:
        return list(STEP_MS)
    return [_number("--step-ms", word, 0.05, 1000.0) for word in given]


def _number(flag: str, word: str, least: float, most: float) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise ArgumentError(f"{flag} {word}: give a number from {least:g} to {most:g}.")
    return value


def _arguments(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ArgumentError(f"--kwargs {text!r} is no JSON ({error}).") from None
    if not isinstance(found, dict):
        raise ArgumentError(f'--kwargs {text!r}: give an object, such as \'{{"path": "x"}}\'.')
    return found
