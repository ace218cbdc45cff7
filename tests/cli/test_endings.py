"""How a run ends when it does not end by itself: Ctrl-C on a terminal, a failure."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stepbus import get_last_checkpoint
from stepbus.engine.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

SOURCE = str(Path(__file__).resolve().parents[2] / "src")

# Makes standard input the controlling terminal, so that the terminal sends the signal.
ON_A_TERMINAL = """\
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("stepbus", run_name="__main__", alter_sys=True)
"""

# What a full disk does to a checkpoint, while the small files still find room.
NO_ROOM = """\
import resource, runpy
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
runpy.run_module("stepbus", run_name="__main__", alter_sys=True)
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1", "TERM": "xterm"}


class Screen:
    """Reads what a program writes to a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._seen = b""
        self._came = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while found := os.read(self._descriptor, 65536):
                with self._came:
                    self._seen += found
                    self._came.notify_all()
        except OSError:
            return  # the other end was closed

    @property
    def text(self) -> str:
        return self._seen.decode("utf-8", "replace")

    def wait_for(self, text: str, process: subprocess.Popen[bytes]) -> None:
        with self._came:
            came = self._came.wait_for(lambda: text in self.text or process.poll() is not None, 90)
        assert came, self.text[-3000:]
        assert text in self.text, self.text[-3000:]


def test_ctrl_c_saves_says_how_to_go_on_and_leaves_no_process(
    tiny: tuple[str, ...], text_file: Path, tmp_path: Path
) -> None:
    keyboard, terminal = pty.openpty()
    words = ("train", str(text_file), *tiny, "--max-steps", "1000000", "--output-dir", "here")
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *words],
        cwd=tmp_path,
        env=environment(),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    screen = Screen(keyboard)
    try:
        screen.wait_for("step 1  loss", process)
        os.write(keyboard, b"\x03")
        assert process.wait(60) == 130, screen.text[-3000:]
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)
        os.close(keyboard)
    end = screen.text[-3000:]
    assert "Traceback" not in end, end
    assert "stepbus train --resume --output-dir here" in end, end
    last = get_last_checkpoint(str(tmp_path / "here"))
    assert last is not None, end
    assert read_checkpoint(last).step > 0


def test_a_failure_is_exit_code_1_and_one_line(
    tiny: tuple[str, ...], text_file: Path, tmp_path: Path
) -> None:
    large = ("--width", "256", "--max-steps", "2", "--output-dir", "here")
    words = ("train", str(text_file), *tiny, *large)
    done = subprocess.run(
        [sys.executable, "-c", NO_ROOM, *words],
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("stepbus: the run")]
    assert "the run failed after step 1" in line
    assert "STEPBUS_DEBUG=1" in done.stdout
    assert get_last_checkpoint(str(tmp_path / "here")) is None


def test_what_was_not_delivered_is_exit_code_3(
    tiny: tuple[str, ...], text_file: Path, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    (package / "faulty-1.0.dist-info").mkdir(parents=True)
    (package / "faulty-1.0.dist-info" / "METADATA").write_text("Name: faulty\nVersion: 1.0\n")
    (package / "faulty-1.0.dist-info" / "entry_points.txt").write_text(
        "[stepbus.subscribers]\nfaulty = faulty:Faulty\n"
    )
    (package / "faulty.py").write_text(
        "from stepbus import Subscriber\n"
        "class Faulty(Subscriber):\n"
        "    def on_log(self, event):\n"
        "        raise RuntimeError('no such luck')\n"
    )
    words = ("train", str(text_file), *tiny, "--max-steps", "2", "--report-to", "faulty")
    done = subprocess.run(
        [sys.executable, "-m", "stepbus", *words],
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": f"{SOURCE}:{package}", "STEPBUS_REPORT_TO": "faulty"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert "no such luck" in done.stderr
    (row,) = [line for line in done.stdout.splitlines() if line.strip().startswith("Faulty")]
    assert "own thread" in row
    assert (tmp_path / "stepbus-train" / "run-1" / "checkpoint-2" / "manifest.json").exists()
