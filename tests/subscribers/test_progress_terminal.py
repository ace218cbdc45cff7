"""Progress of a program on a real terminal, into a pipe, and with its output closed."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEADLINE_S = 60.0
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"

PROGRAM = """
import logging
import sys
from stepbus.bus import EventBus
from stepbus.schemas import TrainerState
from stepbus.subscribers import ProgressCallback

class Clock:
    now = 1000.0
    def monotonic(self): return self.now
    def time(self): return self.now

clock = Clock()
bus = EventBus(clock=clock)
progress = ProgressCallback()
bus.subscribe(progress, required=True)
bus.start()
state = TrainerState()
link = bus.open_run(state)
link.emit("train_begin", {"max_steps": 40})
for step in range(1, 21):
    clock.now += 0.5
    state.global_step = step
    link.emit("step_end", {"loss": 1.5, "step_s": 0.5, "data_wait_s": 0.19})
    if step == 10:
        link.emit("log", {"logs": {"loss": 1.5, "epoch": 0.5}})
        bus.flush(10)
        REPORT or print("printed by the program")
        logging.getLogger("stepbus").warning("warned by stepbus")
        link.emit("prediction_step", {"batch": 2, "num_batches": 4})
        link.emit("log", {"logs": {"eval_loss": 1.75}})
        link.emit("evaluate", {"metrics": {"eval_loss": 1.75}})
bus.flush(10)
ENDING
failures = [row.failures for row in bus.ledger]
if REPORT:
    with open(REPORT, "w") as file:
        file.write(str(failures))
else:
    print("failures", failures)
"""
ENDINGS = {
    "finishes": "state.global_step = 40; link.emit('train_end', {}); bus.close()",
    "closes": "bus.close()",
    "forgets": "",
    "raises": "\ntry:\n    raise KeyboardInterrupt\nfinally:\n    bus.close()",
}


def program(tmp_path: Path, ending: str, report: str = "") -> list[str]:
    path = tmp_path / "program.py"
    text = PROGRAM.replace("ENDING", ENDINGS[ending]).replace("REPORT", repr(report))
    path.write_text(text, encoding="utf-8")
    return [sys.executable, str(path)]


def run_on_terminal(command: list[str], **environment: str) -> str:
    main, side = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40", **environment}
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=env)
    os.close(side)
    out = b""
    deadline = time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < deadline:
            if not select.select([main], [], [], 0.5)[0]:
                continue
            try:
                chunk = os.read(main, 65536)
            except OSError:  # Linux: the other side is closed.
                chunk = b""
            if not chunk:
                break
            out += chunk
        process.wait(max(0.1, deadline - time.monotonic()))
    finally:
        process.kill()
        os.close(main)
    return out.decode()


def visible(out: str) -> list[str]:
    """The lines that were drawn, without colours and cursor movements."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out))


@pytest.mark.parametrize("ending", list(ENDINGS))
def test_the_cursor_comes_back_however_the_program_ends(tmp_path: Path, ending: str) -> None:
    out = run_on_terminal(program(tmp_path, ending))
    assert HIDE in out, out
    assert out.rindex(SHOW) > out.rindex(HIDE), out


def test_a_live_line_shows_the_figures_with_logs_and_prints_above_it(tmp_path: Path) -> None:
    out = run_on_terminal(program(tmp_path, "finishes"))
    lines = visible(out)
    assert any(re.fullmatch(r"\u2501{7}\u2500{23} 10/40  loss 1.5 .*", line) for line in lines), out
    assert any("2 steps/s  0:15 left  data-bound 38 %" in line for line in lines), out
    assert any(line.startswith("evaluating ") and line.endswith("2/4") for line in lines), out
    for text in (
        "step 10  loss 1.5  epoch 0.5",
        "printed by the program",
        "warned by stepbus",
        "step 10  eval_loss 1.75",
        "finished: 40 steps, 0:10 in this attempt",
        "failures [0]",
    ):
        assert text in lines, out
    assert any("\u2501" * 30 + " 40/40" in line for line in lines), out
    assert not any(" 40/40" in line and "left" in line for line in lines), out


def test_a_bar_of_the_program_that_redraws_itself_becomes_one_line(tmp_path: Path) -> None:
    command = program(tmp_path, "finishes")
    bar = "[(sys.stderr.write(text), sys.stderr.flush()) for text in ('\\r0 %', '\\r100 %', '\\n')]"
    path = Path(command[1])
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('logging.getLogger("stepbus").warning("warned by stepbus")', bar))
    lines = visible(run_on_terminal(command))
    assert lines.count("100 %") == 1, lines
    assert "0 %" not in lines, lines


def test_an_evaluation_alone_leaves_no_live_line_behind(tmp_path: Path) -> None:
    command = program(tmp_path, "closes")
    path = Path(command[1])
    text = path.read_text(encoding="utf-8").replace(
        'link.emit("train_begin", {"max_steps": 40})', ""
    )
    path.write_text(text.replace("range(1, 21)", "range(10, 11)"))
    out = run_on_terminal(command)
    assert "step 10  eval_loss 1.75" in visible(out), out
    assert out.rindex("\x1b[2K") > out.rindex("evaluating"), out


def test_a_terminal_without_unicode_gets_plain_characters(tmp_path: Path) -> None:
    out = run_on_terminal(program(tmp_path, "finishes"), PYTHONIOENCODING="ascii")
    assert "#######" in out, out
    assert out.isascii(), out


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path) -> None:
    out = run_on_terminal(program(tmp_path, "finishes"), TERM="dumb")
    assert "training from step 0 to 40" in out, out
    assert "\x1b" not in out, out


def test_a_pipe_gets_plain_lines_even_where_colours_are_forced(tmp_path: Path) -> None:
    done = subprocess.run(
        program(tmp_path, "finishes"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env={**os.environ, "FORCE_COLOR": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "training from step 0 to 40",
        "warned by stepbus",
        "step 10  eval_loss 1.75",
        "finished: 40 steps, 0:10 in this attempt",
    ]
    assert done.stdout.splitlines() == ["printed by the program", "failures [0]"]


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_a_closed_or_full_output_does_not_fail_the_subscriber(
    tmp_path: Path, redirection: str
) -> None:
    report = tmp_path / "report"
    command = program(tmp_path, "finishes", str(report))
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" "$1" {redirection}', *command],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert report.read_text(encoding="utf-8") == "[0]", (done.stdout, done.stderr)


def test_a_pipe_that_nobody_reads_does_not_fail_the_subscriber(tmp_path: Path) -> None:
    process = subprocess.Popen(
        program(tmp_path, "finishes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    process.stderr.close()
    assert process.stdout is not None
    with process.stdout:
        out = process.stdout.read()
    process.wait(DEADLINE_S)
    assert "failures [0]" in out
