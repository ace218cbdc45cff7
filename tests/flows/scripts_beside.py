"""A script for transformers' Trainer, run as it is and with its imports changed by `migrate`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.differential.comparing import differ

SCRIPTS = Path(__file__).parent / "scripts"
KILLED = Path(__file__).parent / "killed_script.py"
DEADLINE_S = 100.0
TIMES = ("_runtime", "_per_second")


class Place:
    """A folder with a script of its own, and what the script leaves in its output folder.

    Args:
        folder: made when it is missing; the script runs in it.
        script: the name of one in `scripts/`.
        migrated: whether its imports are changed first.
    """

    def __init__(self, folder: Path, script: str, *, migrated: bool) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.script = folder / script
        self.script.write_bytes((SCRIPTS / script).read_bytes())
        self.output = folder / "out"
        if migrated:
            self.python("-m", "stepbus", "migrate", "--check", script)
            self.python("-m", "stepbus", "migrate", "--write", script)

    def run(self, *arguments: str) -> str:
        """Runs the script to its end; what it printed."""
        return self.python(self.script.name, *arguments)

    def run_until_killed(self, steps: int, *arguments: str) -> None:
        """Runs the script until it has done so many optimizer steps, and no further."""
        self.python(str(KILLED), str(steps), self.script.name, *arguments, code=-9)

    def python(self, *arguments: str, code: int = 0) -> str:
        """Runs Python; fails with all output unless it exits with that code."""
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(self.folder / "hf"),
            "TOKENIZERS_PARALLELISM": "false",
        }
        command = [sys.executable, *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=DEADLINE_S,
            )
        except subprocess.TimeoutExpired as late:
            parts = [part for part in (late.stdout, late.stderr) if isinstance(part, bytes)]
            shown = b"\n".join(parts).decode(errors="replace")
            pytest.fail(f"{command} ran into its deadline:\n{shown}")
        if done.returncode != code:
            pytest.fail(f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def json(self, name: str) -> Any:
        """A file of the output folder, without what is a time."""
        return without_times(json.loads((self.output / name).read_text()))

    @property
    def checkpoints(self) -> list[str]:
        """The names of the checkpoint folders."""
        return sorted(path.name for path in self.output.glob("checkpoint-*"))


def without_times(value: Any) -> Any:
    """A value of JSON without the keys, at any depth, that hold times and speeds."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not k.endswith(TIMES)}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def last_line_of(output: str) -> Any:
    """What a script prints last, which is JSON."""
    return json.loads(output.splitlines()[-1])


def assert_same(reference: Place, stepbus: Place, files: Sequence[str]) -> None:
    """What both left is the same: results, histories, checkpoints, weights to the last bit."""
    assert reference.checkpoints == stepbus.checkpoints != []
    states = [f"{name}/trainer_state.json" for name in (".", *reference.checkpoints)]
    weights = [f"{name}/model.safetensors" for name in (".", *reference.checkpoints)]
    found: list[str] = []
    for name in ("all_results.json", *states):
        found += differ(f"{name} ", reference.json(name), stepbus.json(name))
    for name in (*weights, *files):
        one, other = ((place.output / name).read_bytes() for place in (reference, stepbus))
        found += [f"{name} differs"] if one != other else []
    assert not found
