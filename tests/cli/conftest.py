"""Runs the command line as people do: as a program of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).resolve().parents[2] / "src")
DEADLINE_S = 90.0
TINY = (
    *("--num-layers", "1", "--width", "16", "--num-heads", "2", "--block-size", "16"),
    *("--sample-length", "20", "--num-eval-blocks", "4"),
)


class Started:
    """A running `stepbus`, its output in files that can be read meanwhile."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def output(self) -> str:
        """What it has printed so far, standard error last."""
        return self._out.read_text() + "\n--- stderr\n" + self._err.read_text()

    def wait_for(self, text: str) -> None:
        """Waits until it has printed this."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.output:
            assert self.process.poll() is None, f"it ended before {text!r}:\n{self.output}"
            assert time.monotonic() < deadline, f"it never printed {text!r}:\n{self.output}"
            time.sleep(0.02)

    def wait(self) -> int:
        """Waits for its end; the exit code."""
        try:
            return self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it did not end:\n{self.output}")


def environment(**changes: str) -> dict[str, str]:
    """The environment of a program; an empty string takes a variable away."""
    values = {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", **changes}
    return {name: value for name, value in values.items() if value}


Stepbus = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Started]


@pytest.fixture
def stepbus(tmp_path: Path) -> Stepbus:
    """Runs `stepbus WORDS` in `tmp_path` to its end."""

    def run(*words: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stepbus", *map(str, words)],
            cwd=tmp_path,
            env=environment(**changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `stepbus WORDS` in `tmp_path`; whatever still runs is ended after the test."""
    running: list[Started] = []

    def begin(*words: str | Path) -> Started:
        out, err = tmp_path / f"out{len(running)}", tmp_path / f"err{len(running)}"
        with out.open("wb") as out_file, err.open("wb") as err_file:
            process = subprocess.Popen(
                [sys.executable, "-m", "stepbus", *map(str, words)],
                cwd=tmp_path,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=out_file,
                stderr=err_file,
                start_new_session=True,
            )
        started = Started(process, out, err)
        running.append(started)
        return started

    yield begin
    for started in running:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait(10)


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """Flags of a model that trains in no time."""
    return TINY


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text of a few thousand characters."""
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n} bottles of beer on the wall.\n" for n in range(100)))
    return path
