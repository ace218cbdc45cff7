"""`stepbus train FILE...`: the same on text of your own."""

from __future__ import annotations

from collections.abc import Sequence

from .text_command import TextCommand, run_command

DESCRIPTION = """\
Trains a small GPT, character by character, on UTF-8 text files. Flags win over --config, that over
the defaults; with --resume, over the arguments that the run was started with."""


def main(words: Sequence[str]) -> int:
    """Trains on the user's files; the exit code."""
    command = TextCommand("stepbus train", DESCRIPTION, base="stepbus-train", takes_files=True)
    return run_command(command, words)
