"""Ctrl-C on a real terminal and SIGTERM by `timeout`, sent to a script that trains."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stepbus.engine.checkpoint import list_checkpoints, read_checkpoint
from tests.bus.sidecar.handlers import lines_of
from tests.engine.trainer.conftest import weights
from tests.engine.trainer.signalled_training import build

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "signalled_training.py"
ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 60.0

# Makes standard input the controlling terminal, so that the terminal sends the signal.
ON_A_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def environment() -> dict[str, str]:
    path = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    return {**os.environ, "OMP_NUM_THREADS": "1", "TERM": "dumb", **path}


class Session:
    """A program on a terminal of its own, with what it writes there."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self._keyboard, terminal = pty.openpty()
        self._text = b""
        self._came = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, *words],
            cwd=folder,
            env=environment(),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the other end was closed
            while found := os.read(self._keyboard, 65536):
                with self._came:
                    self._text += found
                    self._came.notify_all()

    @property
    def text(self) -> str:
        return self._text.decode("utf-8", "replace")

    def wait_for(self, text: str) -> None:
        with self._came:
            self._came.wait_for(
                lambda: text in self.text or self.process.poll() is not None, DEADLINE_S
            )
        assert text in self.text, self.text

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.01)

    def press_ctrl_c(self) -> None:
        os.write(self._keyboard, b"\x03")

    def end(self) -> int:
        """Waits for its end; the exit code. None of its processes is left."""
        code = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert processes_of(self.process.pid) == [], self.text
        return code

    def close(self) -> None:
        for pid in processes_of(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        os.close(self._keyboard)


def processes_of(session: int) -> list[int]:
    """The processes of a terminal's session; workers in groups of their own, too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Callable[..., Session]]:
    """Starts programs, each on a terminal of its own."""
    sessions: list[Session] = []

    def start(*words: str) -> Session:
        sessions.append(Session(list(words), tmp_path))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()


def test_ctrl_c_on_a_terminal_saves_and_ends_the_script_with_130(
    terminal: Callable[..., Session], tmp_path: Path
) -> None:
    # The shell gets the signal too; its trap lets it tell how the script ended.
    script = f"trap : INT; '{sys.executable}' '{PROGRAM}' out step; echo CODE $?"
    session = terminal("sh", "-c", script)
    session.wait_for("WAITING")
    session.press_ctrl_c()
    assert session.end() == 0, session.text
    assert "CODE 130" in session.text, session.text
    assert "KeyboardInterrupt" in session.text
    assert "AFTER TRAIN" not in session.text
    assert read_checkpoint(tmp_path / "out" / "checkpoint-3").step == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "checkpoint-3",
        "ledger.json",
        "run.json",
    ]


def test_ctrl_c_on_a_terminal_reaches_the_training_and_not_its_sidecar(
    terminal: Callable[..., Session], tmp_path: Path
) -> None:
    session = terminal(sys.executable, str(PROGRAM), "out", "sidecar")
    session.wait_for("WAITING")
    session.press_ctrl_c()
    # The checkpoint of the interruption is there while the process is at its first step.
    session.wait_until(lambda: list_checkpoints(str(tmp_path / "out")) != [])
    assert "step_end" not in [line["name"] for line in lines_of(tmp_path / "there")]
    (tmp_path / "go").touch()
    assert session.end() == -signal.SIGINT, session.text
    assert "KeyboardInterrupt" in session.text
    assert "AFTER TRAIN" not in session.text
    here, there = (lines_of(tmp_path / name) for name in ("here", "there"))
    assert {line["pid"] for line in here} == {session.process.pid}
    (sidecar,) = {line["pid"] for line in there}
    assert sidecar != session.process.pid
    events = [[(x["name"], x["seq"]) for x in lines if "seq" in x] for lines in (here, there)]
    assert events[1] == events[0]
    assert [name for name, _ in events[1]].count("step_end") == 3
    interrupts, close = there[-2:]
    assert (interrupts["name"], interrupts["count"]) == ("interrupts", 0)
    assert close["name"] == "close"


def test_a_second_ctrl_c_on_a_terminal_does_not_wait_for_a_stuck_subscriber(
    terminal: Callable[..., Session], tmp_path: Path
) -> None:
    session = terminal(sys.executable, str(PROGRAM), "out", "hang")
    session.wait_for("WAITING")
    session.press_ctrl_c()
    session.wait_for("HANGING")
    pressed = time.monotonic()
    session.press_ctrl_c()
    assert session.end() == -signal.SIGINT, session.text
    # The run would have waited for it for 30 s.
    assert time.monotonic() - pressed < 15, session.text
    assert "Hangs" in session.text, session.text
    assert read_checkpoint(tmp_path / "out" / "checkpoint-3").step == 3


def test_what_timeout_ends_is_saved_and_goes_on_as_if_it_had_not_been(
    terminal: Callable[..., Session], tmp_path: Path
) -> None:
    out = tmp_path / "broken"
    words = ("timeout", "-s", "TERM", str(10 * DEADLINE_S))
    session = terminal(*words, sys.executable, str(PROGRAM), str(out), "loading")
    session.wait_for("WAITING")
    # Its time is up: it sends SIGTERM to the whole group, the workers that are waited for too.
    os.kill(session.process.pid, signal.SIGALRM)
    assert session.end() == 124, session.text
    assert "AFTER TRAIN" not in session.text
    assert "Traceback" not in session.text, session.text
    # Of the first step, if the signal came before the second had begun.
    (checkpoint,) = list_checkpoints(str(out))
    assert read_checkpoint(checkpoint).step in {1, 2}
    resumed = build(str(out))
    resumed.train(resume_from_checkpoint=True)
    unbroken = build(str(tmp_path / "unbroken"))
    unbroken.train()
    assert weights(resumed) == weights(unbroken)
    rows = [[untimed(row) for row in t.state.log_history] for t in (resumed, unbroken)]
    assert rows[0] == rows[1]


def untimed(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if not k.endswith(("runtime", "per_second"))}
