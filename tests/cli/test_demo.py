"""`stepbus demo` from the first line to the last, at a size that takes no time."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stepbus import Log, get_last_checkpoint, parse_event
from stepbus.engine.checkpoint import read_checkpoint

pytestmark = pytest.mark.slow

Stepbus = Callable[..., subprocess.CompletedProcess[str]]

# What an installation without the extra looks like to an import.
BLOCKER = """\
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorboard", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def finished(done: subprocess.CompletedProcess[str], code: int = 0) -> str:
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_the_demo_leaves_everything_where_it_says(
    stepbus: Stepbus, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    words = ("demo", "--max-steps", "4", "--save-steps", "2", "--eval-steps", "2", *tiny)
    output = finished(stepbus(*words, STEPBUS_REPORT_TO=""))
    folder = tmp_path / "stepbus-demo" / "run-1"
    for said in ("4 steps", "nats per character", str(folder), "stepbus demo --resume", "after"):
        assert said in output, output

    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = {row["step"]: float(row["eval_loss"]) for row in rows if row["eval_loss"]}
    assert set(losses) == {"2", "4"}
    assert f"{losses['4']:.4f} nats" in output

    lines = (folder / "history.jsonl").read_bytes().splitlines()
    logs = [parse_event(line) for line in lines]
    assert all(isinstance(log, Log) for log in logs)
    assert len(logs) == len(rows)

    assert (folder / "loss_curve.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert tensorboard_scalars(folder)["eval/loss"] == pytest.approx(losses["4"])
    assert f"tensorboard --logdir {folder.relative_to(tmp_path)}" in output

    last = get_last_checkpoint(str(folder))
    assert last is not None
    checkpoint = read_checkpoint(last)
    assert checkpoint.step == 4
    assert isinstance(checkpoint.states["model"]["token_embedding.weight"], torch.Tensor)
    for subscriber in ("CSVHistory", "JSONLHistory", "LossCurve", "TensorBoardCallback"):
        assert subscriber in output, output

    again = finished(stepbus(*words))
    assert "stepbus-demo/run-2" in again


def tensorboard_scalars(folder: Path) -> dict[str, float]:
    """The last value of each scalar in the event files under `folder`."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, float] = {}
    for path in folder.glob("runs/*/events.out.*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tensor.float_val:
                    found[value.tag] = value.tensor.float_val[0]
    return found


def test_the_core_alone_runs_and_names_the_extra(
    stepbus: Stepbus, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "sitecustomize.py").write_text(BLOCKER)
    path = f"{blocked}:{Path(__file__).resolve().parents[2] / 'src'}"
    done = stepbus("demo", "--max-steps", "2", *tiny, PYTHONPATH=path, STEPBUS_REPORT_TO="")
    output = finished(done)
    assert "TensorBoard files and the loss curve: pip install 'stepbus[demo]'" in output
    names = {path.name for path in (tmp_path / "stepbus-demo" / "run-1").iterdir()}
    assert {"history.csv", "history.jsonl", "checkpoint-2"} <= names
    assert not names & {"loss_curve.png", "runs"}


def test_resume_takes_the_last_demo_up_with_its_own_settings(
    stepbus: Stepbus, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    finished(stepbus("demo", "--max-steps", "2", *tiny))
    finished(stepbus("demo", "--resume", "--max-steps", "3"))
    last = get_last_checkpoint(str(tmp_path / "stepbus-demo" / "run-1"))
    assert last is not None
    assert last.endswith("checkpoint-3")
    assert not (tmp_path / "stepbus-demo" / "run-2").exists()
