"""A program that ends with a subscriber behind leaves no folder, and says nothing of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import os, signal, sys, threading
from stepbus.bus import EventBus
from stepbus.schemas import TrainerState

bus = EventBus()
slow = threading.Event()

@bus.subscribe("step_end", mailbox_size=10)
def handle(event):
    slow.wait(0.0002)

bus.start()
link = bus.open_run(TrainerState())
for _ in range(30_000):
    link.state.global_step += 1
    link.emit("step_end")
assert bus._pump.drain(30)
assert bus.event_log.flush(30)
print(bus.event_log.folder, flush=True)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "raises":
    raise SystemExit(3)
"""


def run(how: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("raises", 3)])
def test_a_bus_that_was_not_closed_leaves_nothing(how: str, code: int, tmp_path: Path) -> None:
    ran = run(how, tmp_path)
    assert (ran.returncode, ran.stderr) == (code, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_a_killed_program_leaves_goes_with_the_next(tmp_path: Path) -> None:
    killed = run("killed", tmp_path)
    assert [str(p) for p in tmp_path.iterdir()] == [killed.stdout.strip()]
    run("returns", tmp_path)
    assert list(tmp_path.iterdir()) == []
