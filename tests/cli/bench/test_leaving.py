"""Whoever ends a measurement in its midst leaves no process behind, not even a frozen one."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus.cli.bench.freezing import descendants

pytestmark = pytest.mark.slow
DEADLINE_S = 60.0


def state_of(pid: int) -> str:
    """The letter that the kernel has for it; Z once it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def wait_until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_measurement_that_is_ended_leaves_no_process(
    start: Callable[..., Any], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    shutil.copy(Path(__file__).parent / "measured.py", tmp_path)
    words = ("bench", "--subscriber", "measured:Light", "--seconds", "60", "--step-ms", "0.4")
    started = start(*words)
    bench = started.process
    wait_until(lambda: "T" in map(state_of, descendants(bench.pid)), lambda: started.output)
    left = descendants(bench.pid)
    bench.send_signal(number)
    assert bench.wait(DEADLINE_S) == code, started.output
    wait_until(lambda: set(map(state_of, left)) == {"Z"}, lambda: str(list(map(state_of, left))))
