"""The command line `stepbus`; each command is a file of its own, imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..schemas.errors import ArgumentError, DeliveryError, StepbusError, nearest
from .exit_codes import BAD_INPUT, FAILED, FINISHED, INTERRUPTED
from .failure import DEBUG, tell

COMMANDS = {
    "demo": "train a small language model on text that comes with Python, and watch it learn",
    "train": "do the same on text files of your own; every setting a flag or a line of YAML",
    "report": "what a training that has ended cost, and each of its subscribers",
    "vote": "ask a running training to log, evaluate, save or stop",
    "migrate": "what of a script for transformers' Trainer works here; change its imports",
    "bench": "what a subscriber or callback costs the step, and where it should run",
    "trackers": "which trackers a run would report to here, and why not to the others",
    "env": "what a bug report needs: versions, devices, extras",
}

HELP = f"""\
usage: stepbus COMMAND ...

The training step says what happened and goes on; everyone else listens.

commands:
{"".join(f"  {name:10}{text}{chr(10)}" for name, text in COMMANDS.items())}
options:
  --version   the version of stepbus
  --debug     show tracebacks (also: {DEBUG}=1)
  --help      this text; stepbus COMMAND --help tells more

exit codes: 0 finished, 1 the run failed, 2 bad arguments or input, 3 trained but something was
not delivered, 130 and 143 stopped by Ctrl-C or SIGTERM, and saved"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in words:
        words.remove("--debug")
        os.environ[DEBUG] = "1"
    try:
        return _run(words)
    except StepbusError as error:
        tell(error)
        return FAILED if isinstance(error, DeliveryError) else BAD_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; Python must not try again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _run(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(HELP)
        return FINISHED if words else BAD_INPUT
    if words[0] in ("--version", "-V"):
        print(f"stepbus {__version__}")
        return FINISHED
    command, *rest = words
    if command not in COMMANDS:
        raise ArgumentError(f"There is no command {command!r}: {nearest(command, COMMANDS)}")
    code: int = importlib.import_module(f".{command}", __name__).main(rest)
    sys.stdout.flush()
    return code
