"""What Flyte has of the runs of its tasks: decks, and checkpoints for another try."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stepbus import ArgumentError, FlyteCallback
from stepbus.bus.registry import Registry, resolve_report_to
from stepbus.subscribers.trackers.experiment_run import flat
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.reading.flyte import ShownRun, Tables


def assert_shows(shown: ShownRun, told: dict[str, Any]) -> None:
    rows = [{"step": step, **logs} for step, logs in told["rows"]]
    assert shown.rows == [{k: str(v) for k, v in row.items()} for row in rows]
    expected = {name: "" if v is None else str(v) for name, v in flat(told["params"]).items()}
    missing = {name for name in expected if shown.params.get(name) != expected[name]}
    # JSON has made lists of tuples.
    assert not {name for name in missing if not isinstance(flat(told["params"])[name], list)}
    assert shown.params["model/num_parameters"] == "81"


@pytest.mark.slow
def test_a_task_shows_what_its_runs_logged_and_another_try_goes_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.subscribers.trackers.flyte_task", str(tmp_path)],
        env={**os.environ, "TMPDIR": str(tmp_path), "FLYTE_SDK_LOGGING_LEVEL": "40"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "told.json").read_text())
    pages = sorted(tmp_path.rglob("deck.html"), key=lambda path: path.stat().st_mtime_ns)
    first, second = map(Tables, pages)
    # One deck of a run, with the evaluations around the training.
    assert [name for name in first.names if name.startswith("Log")] == ["Log History"]
    (shown,) = first.runs
    assert_shows(shown, told["first"])
    assert [row["step"] for row in shown.rows if "eval_loss" in row] == ["0", "3", "6", "6"]
    assert "train_runtime" in shown.rows[-2]
    assert shown.status == {"status": "finished"}
    assert told["first"]["where"]["id"]
    # The last checkpoint, byte for byte, is what the next try begins with.
    (saved,) = [path for path in tmp_path.rglob("__cp") if any(path.iterdir())]
    files = (path for path in saved.rglob("*") if path.is_file())
    found = {str(path.relative_to(saved)): path.read_bytes().hex() for path in files}
    assert found == told["first"]["files"]["6"]
    assert told["steps"] == 9
    assert [name for name in second.names if name.startswith("Log")] == [
        "Log History",
        "Log History (third)",
    ]
    for shown, name in zip(second.runs, ("second", "third"), strict=True):
        assert_shows(shown, told[name])
    assert second.runs[0].rows[0]["step"] == "7"
    assert not (tmp_path / "checkpoints").exists()
    # Where it shows nothing, and where there is no task.
    assert (told["no decks"], told["still no decks"]) == (0, 0)
    assert told["outside"].startswith("FlyteCallback: no task of Flyte runs in this thread: make")


def test_outside_of_a_task_it_is_refused_and_never_attached_unasked(train_with: TrainWith) -> None:
    was_loaded = "flytekit" in sys.modules
    assert not FlyteCallback.is_set_up()
    with pytest.raises(ArgumentError, match="'flyte' was asked for, and no task of Flyte runs"):
        resolve_report_to("flyte", Registry(), environ={})
    choices = {choice.name: choice for choice in resolve_report_to("all", Registry(), environ={})}
    assert not choices["flyte"].attached
    with pytest.raises(ArgumentError, match="make it within the function under @task"):
        train_with(FlyteCallback())
    assert ("flytekit" in sys.modules) == was_loaded
