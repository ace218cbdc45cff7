"""`stepbus vote RUN_DIR ACTION`: steers a training that runs elsewhere, through a file."""

from __future__ import annotations

import contextlib
import getpass
import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..bus.vote_files import votes_folder, write_vote_file
from ..schemas.errors import ArgumentError
from ..schemas.vote import ACTIONS, Vote
from .exit_codes import FAILED, FINISHED
from .flags import FlagParser

LOOK_EVERY_S = 0.05

DESCRIPTION = """\
Casts a vote for the training that writes to RUN_DIR, waits until it was counted, and prints the
verdict. A run looks for votes once a second and counts them after the step."""


def main(words: Sequence[str]) -> int:
    """Casts the vote and prints the verdict; the exit code."""
    given = _parser().parse(words)
    timeout_s = _seconds("--timeout", given["timeout"])
    expires = given["expires_after_s"]
    vote = Vote(
        given["action"],
        reason=given["reason"],
        voter=given["voter"] or f"{_user()}@{socket.gethostname()}",
        against=given["against"],
        expires_after_s=_seconds("--expires-after-s", expires) if expires else None,
    )
    answer = write_vote_file(given["run_dir"], vote)
    pending = votes_folder(given["run_dir"]) / answer.name
    return _wait(vote, pending, answer, timeout_s)


def _wait(vote: Vote, pending: Path, answer: Path, timeout_s: float) -> int:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        verdict = _verdict(answer)
        if verdict is not None:
            return _print_verdict(vote, verdict)
        if vote.against and answer.exists():
            print(f"noted: {vote.action} is vetoed from now on")
            return FINISHED
        time.sleep(LOOK_EVERY_S)
    taken = answer.exists()
    with contextlib.suppress(FileNotFoundError):
        pending.unlink()  # a run that is started later must not find it
    if taken:
        print(f"taken, not decided within {timeout_s:g} s: the verdict will be in {answer}")
    else:
        print(
            f"no run answered within {timeout_s:g} s, and the vote was taken back: is one running?"
        )
    return FAILED


def _verdict(answer: Path) -> dict[str, Any] | None:
    try:
        verdict = json.loads(answer.read_text(encoding="utf-8")).get("verdict")
    except (OSError, ValueError):
        return None
    return verdict if isinstance(verdict, dict) else None


def _print_verdict(vote: Vote, verdict: dict[str, Any]) -> int:
    outcome = verdict.get("outcome", "")
    step = verdict.get("acted_at")
    where = f" at step {step}" if step is not None else ""
    detail = f": {verdict['detail']}" if verdict.get("detail") else ""
    print(f"{vote.action} {outcome}{where}{detail}")
    return FINISHED if outcome == "acted" else FAILED


def _seconds(flag: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ArgumentError(f"{flag} is {text!r}: give seconds above 0.")
    return seconds


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "someone"


def _parser() -> FlagParser:
    parser = FlagParser(
        "stepbus vote",
        DESCRIPTION,
        usage="stepbus vote RUN_DIR ACTION [--reason TEXT] [--against]",
        epilog="exit codes: 0 acted on (a veto: noted), 1 vetoed, refused, too late, or no run "
        "answered, 2 bad arguments",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder that the run writes to")
    parser.add_argument("action", metavar="ACTION", help=f"one of {', '.join(ACTIONS)}")
    options = parser.options
    options.add_argument("--reason", metavar="TEXT", default="", help="why; goes on record")
    options.add_argument("--voter", metavar="NAME", default="", help="who asks [user@host]")
    options.add_argument("--against", action="store_true", help="veto the action instead")
    options.add_argument(
        "--timeout", metavar="S", default="30", help="seconds to wait for the verdict [30]"
    )
    options.add_argument(
        "--expires-after-s", metavar="S", default="", help="the vote lapses after so many seconds"
    )
    return parser
