"""Built-ins in another process that is killed in the middle of a run: their files are whole."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus.bus import EventBus, Subscriber
from stepbus.schemas import TrainerState
from stepbus.subscribers import CSVHistory, JSONLHistory, LossCurve, TensorBoardCallback
from tests.bus.sidecar.conftest import children
from tests.subscribers.test_tensorboard import scalars

pytestmark = pytest.mark.slow


def kill_the_sidecar() -> None:
    (pid,) = children()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not children() or pid in children():
        assert time.monotonic() < deadline, "it was not replaced"
        time.sleep(0.01)


def run(subscriber: Subscriber, folder: Path, attempts: int = 1) -> list[int]:
    """Two attempts at most, the second from step 10, each of which its sidecar is killed in; the
    steps that were logged and stand."""
    for attempt in range(1, attempts + 1):
        begins = 10 * (attempt - 1)
        with EventBus() as bus:
            bus.subscribe(subscriber, delivery="process", required=True)
            bus.wait_ready()
            state = TrainerState(global_step=begins)
            link = bus.open_run(state, run_id="r", attempt=attempt)
            resumed = {"resumed_from": "checkpoint-10"} if attempt > 1 else {}
            link.emit("init_end", {"output_dir": str(folder)})
            link.emit("train_begin", {"output_dir": str(folder), **resumed})
            for step in range(begins + 1, begins + 16):
                state.global_step = step
                logs = {"loss": float(attempt * step)}
                state.add_log({**logs, "step": step})
                link.emit("log", {"logs": logs})
                if step in (begins + 5, begins + 9):
                    assert bus.flush(30)
                    kill_the_sidecar()
            link.emit("train_end")
            assert bus.flush(30)
            row = bus.ledger[type(subscriber).__name__]
            assert (row.failures, row.quarantined) == (0, "")
            assert row.handled == row.accepted
    return list(range(1, 10 * attempts + 6))


@pytest.mark.parametrize("attempts", [1, 2])
def test_tensorboard(tmp_path: Path, attempts: int) -> None:
    board = TensorBoardCallback()
    steps = run(board, tmp_path, attempts)
    folders = list((tmp_path / "runs").iterdir())
    assert folders == [board.logging_dir]
    # An event may come twice; TensorBoard shows one point for both.
    found = dict(scalars(board.logging_dir, "train/loss"))
    assert list(found) == steps
    factor = {step: 2 if attempts == 2 and step > 10 else 1 for step in steps}
    assert found == {step: float(factor[step] * step) for step in steps}


def jsonl_steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def csv_steps(path: Path) -> list[int]:
    with path.open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("kind", "name", "steps_of"),
    [(JSONLHistory, "history.jsonl", jsonl_steps), (CSVHistory, "history.csv", csv_steps)],
)
def test_histories(
    tmp_path: Path, kind: type[Any], name: str, steps_of: Callable[[Path], list[int]]
) -> None:
    steps = run(kind(), tmp_path, 2)
    found = steps_of(tmp_path / name)
    assert sorted(set(found)) == steps
    assert found == sorted(found)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_the_loss_curve_has_what_was_logged_before(tmp_path: Path) -> None:
    curve = LossCurve(path=tmp_path / "curve.png", every_s=None)
    whole = LossCurve(path=tmp_path / "whole.png", every_s=None)
    run(curve, tmp_path / "a")
    with EventBus() as bus:
        bus.subscribe(whole, required=True)
        bus.start()
        state = TrainerState()
        link = bus.open_run(state, run_id="r")
        link.emit("train_begin", {"output_dir": str(tmp_path)})
        for step in range(1, 16):
            state.global_step = step
            link.emit("log", {"logs": {"loss": float(step)}})
        link.emit("train_end")
    assert (tmp_path / "curve.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
