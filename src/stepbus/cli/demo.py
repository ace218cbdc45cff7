"""`stepbus demo`: a small language model learns English from the text that comes with Python."""

from __future__ import annotations

from collections.abc import Sequence

from ..subscribers import TensorBoardCallback
from .text_command import TextCommand, run_command

DESCRIPTION = """\
Trains a small GPT, character by character, on the help text that comes with Python: a minute or
two on two CPU cores. Shows it live, writes checkpoints, TensorBoard files, logs and a loss curve,
and says at the end where everything is and what each subscriber cost."""


def main(words: Sequence[str]) -> int:
    """Runs the demo; the exit code."""
    # A first look reports to nobody else's server, whatever happens to be logged in here.
    report_to = ["tensorboard"] if TensorBoardCallback.is_installed() else ["none"]
    defaults = {"report_to": report_to}
    command = TextCommand("stepbus demo", DESCRIPTION, base="stepbus-demo", defaults=defaults)
    return run_command(command, words)
