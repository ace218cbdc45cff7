"""What `stepbus demo` and `stepbus train` have in common: from words to a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..schemas.errors import ArgumentError
from ..schemas.text_job_arguments import TextJobArguments
from .exit_codes import FINISHED
from .flags import FlagParser, add_fields, field_values
from .run_folder import last_run, new_run, refuse_used
from .settings import as_config, build, layered, read_config


@dataclass(frozen=True)
class TextCommand:
    """A command that runs the text job."""

    prog: str
    description: str
    base: str
    """Folder of its runs, where none is asked for."""
    takes_files: bool = False
    defaults: dict[str, Any] = field(default_factory=dict)
    """Where they differ from those of the text job."""


def run_command(command: TextCommand, words: Sequence[str]) -> int:
    """Runs the text job as the words say; the exit code.

    Raises:
        StepbusError: the arguments or the input are bad; nothing was written.
    """
    found = _parser(command).parse(words)
    config = read_config(found["config"]) if found["config"] else {}
    layers = [command.defaults, config, field_values(found)]
    if found.get("files"):
        layers.append({"files": found["files"]})
    values = layered(layers)
    if found["print_config"]:
        print(as_config(build(values), output_dir_chosen="output_dir" in values))
        return FINISHED
    resume = found["resume"] or bool(values.get("resume_from_checkpoint"))
    _calm_threads()
    if resume:
        args = _resumed(command, layers, values)
    else:
        args = build({"output_dir": new_run(command.base), **values})
        refuse_used(args.output_dir)
    if command.takes_files and not args.files and not resume:
        raise ArgumentError(f"No text file was given: {command.prog} FILE...")
    args.files = [os.path.abspath(name) for name in args.files]  # noqa: PTH100 - as the user spells it
    from .text_run import run_text_job

    return run_text_job(args, command.prog)


def _calm_threads() -> None:
    """Has torch's threads sleep while they wait for one another, unless told otherwise.

    As it is, they spin: on two cores with one other busy program a step then takes twice as long.
    Must be called before torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _resumed(
    command: TextCommand, layers: Sequence[dict[str, Any]], values: dict[str, Any]
) -> TextJobArguments:
    """The arguments of the run to go on with, under those that are given now."""
    checkpoint = values.get("resume_from_checkpoint") or True
    if isinstance(checkpoint, str):
        output_dir = values.get("output_dir") or str(Path(checkpoint).parent)
    else:
        output_dir = values.get("output_dir") or last_run(command.base)
    from ..engine.text.job import saved_arguments

    saved = saved_arguments(output_dir, checkpoint)
    fields = TextJobArguments.__dataclass_fields__
    known = {name: value for name, value in saved.items() if name in fields}
    given = layered([known, *layers[1:]])
    return build({**given, "output_dir": output_dir, "resume_from_checkpoint": checkpoint})


def _parser(command: TextCommand) -> FlagParser:
    files = " [FILE ...]" if command.takes_files else ""
    usage = f"{command.prog}{files} [--config YAML] [--flag VALUE ...]"
    parser = FlagParser(command.prog, command.description, usage=usage)
    if command.takes_files:
        parser.add_argument("files", nargs="*", metavar="FILE", help="UTF-8 text files to learn")
    options = parser.options
    options.add_argument("--config", metavar="YAML", help="read settings from this file")
    options.add_argument(
        "--print-config", action="store_true", help="print all settings as such a file, and end"
    )
    options.add_argument(
        "--resume",
        action="store_true",
        help=f"go on with the run in --output-dir, or with the last one in {command.base}/",
    )
    add_fields(parser, command.defaults | {"output_dir": f"{command.base}/run-N"})
    return parser
