"""A trainer that is gone: its sidecar writes what it has, closes the runs as killed, and goes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bus.sidecar.conftest import is_running
from tests.bus.sidecar.emitting import emitted
from tests.bus.sidecar.handlers import lines_of

PROGRAM = Path(__file__).with_name("emitting.py")
ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 60.0
GONE_WITHIN_S = 5.0


class Emitting:
    """The program, and what it leaves behind."""

    def __init__(self, folder: Path, how: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.said = (folder / "said").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(folder), how],
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdout=subprocess.PIPE,
            stderr=self.said,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first == b"EMITTING\n", self.words()

    def words(self) -> str:
        self.said.seek(0)
        return self.said.read().decode()

    def kill(self) -> float:
        """Kills it; when that was, seconds since 1970."""
        at = time.time()
        self.process.kill()
        self.process.wait(DEADLINE_S)
        return at

    def wait_until_gone(self, pid: int) -> None:
        """The sidecar, which is no child of this process, is gone in time."""
        deadline = time.monotonic() + GONE_WITHIN_S
        while is_running(pid):
            assert time.monotonic() < deadline, f"the sidecar is still there\n{self.words()}"
            time.sleep(0.02)

    def lines(self, name: str) -> list[dict[str, Any]]:
        return lines_of(self.folder / name)

    @property
    def sidecar(self) -> int:
        return int(self.lines("writer")[0]["pid"])

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.said.close()


@pytest.fixture
def emitting(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def start(how: str, name: str = "run") -> Emitting:
            program = Emitting(tmp_path / name, how)
            stack.callback(program.close)
            return program

        yield start


def assert_complete(program: Emitting, killed_at: float) -> None:
    """All that was emitted up to 100 ms before is there, in order, without a gap."""
    steps = [line["step"] for line in program.lines("writer") if line["name"] == "step_end"]
    assert steps == list(range(1, len(steps) + 1))
    times = emitted(program.folder)
    expected = sum(at <= killed_at - 0.1 for at in times)
    assert len(steps) >= expected, f"{len(steps)} of {expected}, {len(times)} in all"


def test_what_was_sent_is_written_and_the_run_closed_as_killed(emitting: Any) -> None:
    program = emitting("until killed")
    sidecar = program.sidecar
    while len(program.lines("writer")) < 200:
        time.sleep(0.01)
    killed_at = program.kill()
    program.wait_until_gone(sidecar)
    assert_complete(program, killed_at)
    assert program.lines("writer")[-1]["name"] == "close"
    assert [(line["name"], line.get("run_id")) for line in program.lines("runs")] == [
        ("train_begin", "ended"),
        ("train_end", "ended"),
        ("train_begin", "open"),
        ("run_failed", "open"),
        ("close", None),
    ]
    failed = program.lines("runs")[3]
    assert failed["error"] == "Killed"
    assert failed["message"] == (
        f"the training process {program.process.pid} ended without closing the run"
    )
    last = program.lines("writer")[-3]
    assert (last["name"], last["step"]) == ("step_end", failed["step"])
    assert "its sidecar handled what it had, closed open as killed, and ends" in program.words()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["exits", "forks", "closed", "stuck"])
def test_however_it_ends(emitting: Any, how: str) -> None:
    program = emitting(how)
    sidecar = program.sidecar
    if how == "exits":
        assert program.process.wait(DEADLINE_S) == 7
    else:
        while len(program.lines("writer")) < 100:
            time.sleep(0.01)
        program.kill()
    program.wait_until_gone(sidecar)
    assert program.lines("runs")[-2]["error"] == "Killed"
    assert program.lines("writer")[-1]["name"] == "close"
    if how == "stuck":
        assert "left stuck behind" in program.words()
        assert [line["name"] for line in program.lines("stuck")].count("step_end") == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_kills_leave_complete_files_and_no_process(emitting: Any) -> None:
    randomly = random.Random(11)
    for number in range(20):
        program = emitting("until killed", f"run{number}")
        sidecar = program.sidecar
        time.sleep(randomly.uniform(0.0, 1.0))  # The moment is what is random here.
        killed_at = program.kill()
        program.wait_until_gone(sidecar)
        assert_complete(program, killed_at)
        assert program.lines("runs")[-2]["error"] == "Killed"
        assert program.lines("writer")[-1]["name"] == "close"
