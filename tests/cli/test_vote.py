"""`stepbus vote`: a second process steers a running training."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus import get_last_checkpoint
from stepbus.cli import main

Stepbus = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Any]


@pytest.mark.slow
def test_votes_act_in_a_running_training(
    stepbus: Stepbus, start: Start, tiny: tuple[str, ...], text_file: Path, tmp_path: Path
) -> None:
    run = start("train", text_file, *tiny, "--max-steps", "1000000", "--output-dir", "here")
    run.wait_for("training from step 0")
    saved = stepbus("vote", "here", "save", "--reason", "before lunch", "--voter", "me")
    assert saved.returncode == 0, saved.stdout + saved.stderr + run.output
    assert saved.stdout.startswith("save acted at step ")
    last = get_last_checkpoint(str(tmp_path / "here"))
    assert last is not None
    assert f"here/{Path(last).name}" in saved.stdout
    run.wait_for("save acted: me (before lunch)")

    veto = stepbus("vote", "here", "stop", "--against", "--reason", "not yet", "--voter", "boss")
    assert (veto.returncode, veto.stdout) == (0, "noted: stop is vetoed from now on\n")
    vetoed = stepbus("vote", "here", "stop")
    assert vetoed.returncode == 1, run.output
    assert "stop vetoed" in vetoed.stdout
    assert "not yet" in vetoed.stdout

    stopped = stepbus("vote", "here", "stop", "--reason", "enough")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr + run.output
    assert run.wait() == 0, run.output
    assert "stopped (enough)" in run.output
    late = stepbus("vote", "here", "save", "--timeout", "0.2")
    assert late.returncode == 1
    assert "no run answered within 0.2 s" in late.stdout


def test_a_vote_that_no_run_answers_is_taken_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["vote", str(tmp_path), "stop", "--timeout", "0.1"]) == 1
    assert "no run answered within 0.1 s, and the vote was taken back" in capsys.readouterr().out
    assert [path.name for path in tmp_path.rglob("*.json")] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("save",), "the following arguments are required: ACTION"),
        ((".", "stopp"), "no action 'stopp' to vote for: did you mean 'stop'?"),
        (("nowhere", "stop"), "There is no run folder 'nowhere'"),
        ((".", "stop", "--timeout", "0"), "--timeout is '0': give seconds above 0."),
        ((".", "stop", "--reson", "x"), "no flag --reson: did you mean --reason?"),
    ],
)
def test_a_bad_vote_is_refused(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["vote", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
