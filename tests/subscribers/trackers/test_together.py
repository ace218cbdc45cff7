"""Every tracker in one run that logs each step: all are complete when `train()` returns.

A tracker is one row of `TRACKERS`.
"""

from __future__ import annotations

import shutil
import struct
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stepbus import (
    ClearMLCallback,
    CodeCarbonCallback,
    CometCallback,
    DVCLiveCallback,
    LedgerRow,
    MLflowCallback,
    TensorBoardCallback,
    TrainerCallback,
    WandbCallback,
)
from stepbus.subscribers.reporter import tracker_key
from stepbus.subscribers.trackers.experiment import CLOSING
from tests.subscribers.test_tensorboard import read
from tests.subscribers.trackers.conftest import Trained, TrainWith
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.trackers.hanging import HangingTracker
from tests.subscribers.trackers.reading import clearml, comet, dvclive, mlflow, wandb
from tests.subscribers.trackers.reading.codecarbon import rows_of

pytestmark = pytest.mark.slow

Points = dict[str, list[tuple[int, float]]]
STEPS = 12
SETUP_S = 100
"""All their packages are imported at once, on whatever cores there are."""
DRAIN_S = 10.0
"""Half of it is what all of them have to close their files."""


class Row(NamedTuple):
    """One tracker: how it is made, and how to read back what it has of the run."""

    make: Callable[[], Any]
    points: Callable[[Trained], Points] | None
    """Step and value of each point, by the tracker's name of it; None of one that keeps none."""
    ended: Callable[[Trained], object]
    """What it says of the run's end, where it can say it."""
    end: object
    """What that is for a run that has finished."""
    named: Callable[[str], str] = tracker_key
    """The tracker's name of a logged value."""
    kept: Callable[[float], float] = float
    """What it keeps of a value."""
    environ: Mapping[str, str] = {}


def single(value: float) -> float:
    """As a number of 32 bits."""
    found: float = struct.unpack("f", struct.pack("f", value))[0]
    return found


def tensorboard_points(trained: Trained) -> Points:
    (folder,) = (trained.output_dir / "runs").iterdir()
    board = read(folder)
    return {
        tag: [(event.step, event.value) for event in board.Scalars(tag)]
        for tag in board.Tags()["scalars"]
    }


def mlflow_run(trained: Trained) -> mlflow.StoredRun:
    (run,) = mlflow.stored_runs(trained.output_dir / "mlflow.db")
    return run


def wandb_run(trained: Trained) -> wandb.OfflineRun:
    (run,) = wandb.offline_runs(trained.output_dir)
    return run


def dvclive_run(trained: Trained) -> dvclive.FolderRun:
    return dvclive.FolderRun(trained.output_dir / "dvclive")


def measured(trained: Trained) -> bool:
    """Whether CodeCarbon has a row of the run, and the others what it measured."""
    (row,) = rows_of(trained.output_dir)
    energy = trained.logged(rewritten=False)["energy_kwh"]
    return 0 < energy[-1][1] <= row.values["energy_kwh"]


def clearml_run(trained: Trained) -> clearml.Session:
    (run,) = clearml.sessions(trained.output_dir / "clearml")
    return run


def comet_run(trained: Trained) -> comet.Archive:
    (run,) = comet.archives(trained.output_dir / "comet")
    return run


TRACKERS: dict[str, Row] = {
    "clearml": Row(
        ClearMLCallback,
        points=lambda trained: clearml_run(trained).points,
        ended=lambda trained: clearml_run(trained).params("stepbus")["status"],
        end="finished",
        environ={"CLEARML_OFFLINE_MODE": "1"},
    ),
    "codecarbon": Row(
        partial(CodeCarbonCallback, country_iso_code="FRA"),
        points=None,
        ended=measured,
        end=True,
    ),
    "comet_ml": Row(
        CometCallback,
        points=lambda trained: comet_run(trained).points,
        ended=lambda trained: comet_run(trained).others["stepbus/status"],
        end="finished",
        environ={"COMET_START_ONLINE": "0"},
    ),
    "dvclive": Row(
        DVCLiveCallback,
        points=lambda trained: dvclive_run(trained).all_points(),
        ended=lambda trained: dvclive_run(trained).summary["stepbus"],
        end={"status": "finished"},
        named=lambda name: name.replace("eval_", "eval/").replace("train_", "train/"),
    ),
    "mlflow": Row(
        MLflowCallback,
        points=lambda trained: mlflow_run(trained).all_points(),
        ended=lambda trained: mlflow_run(trained).status,
        end="FINISHED",
        named=str,
    ),
    "tensorboard": Row(
        TensorBoardCallback,
        points=tensorboard_points,
        ended=lambda trained: None,
        end=None,
        kept=single,
    ),
    "wandb": Row(
        WandbCallback,
        points=lambda trained: wandb_run(trained).all_points(),
        ended=lambda trained: wandb_run(trained).exit_code,
        end=0,
        environ={"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"},
    ),
}


BESIDE_ONE_THAT_HANGS = ("dvclive", "tensorboard", "wandb")
"""Not all of them once more: those that take the longest to import are left out."""


class CaughtUp(TrainerCallback):
    """Waits in the middle until all of them have what there is: they are set up by then."""

    def __init__(self, trained: Trained) -> None:
        self._trained = trained

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == STEPS // 2:
            assert self._trained.trainer.bus.flush(SETUP_S)


@pytest.fixture
def trained_together(
    train_with: TrainWith,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Callable[..., Trained]:
    """Trains with all of them, and with others."""
    for row in TRACKERS.values():
        for name, value in row.environ.items():
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    shutil.copy(request.getfixturevalue("empty_database"), tmp_path / "out" / "mlflow.db")

    def train(names: Collection[str], *others: Any, **fields: Any) -> Trained:
        first, *more = [TRACKERS[name].make() for name in names]
        trained = train_with(first, train=False, max_steps=STEPS, eval_steps=6, **fields)
        trained.trainer.bus.setup_timeout = SETUP_S
        for callback in (*more, *others):
            trained.trainer.add_callback(callback)
        trained.trainer.add_callback(CaughtUp(trained))
        trained.trainer.train()
        return trained

    return train


def assert_complete(trained: Trained, names: Collection[str]) -> None:
    """Each tracker has every value of every step, exactly, and how the run ended."""
    logged = trained.logged(rewritten=False)
    assert [step for step, _ in logged["loss"]] == list(range(1, STEPS + 1))
    assert [step for step, _ in logged["eval_loss"]] == [6, 12]
    for name in names:
        row = TRACKERS[name]
        assert row.ended(trained) == row.end, name
        if row.points is None:
            continue
        points = row.points(trained)
        expected = {
            row.named(key): [(step, row.kept(value)) for step, value in values]
            for key, values in logged.items()
        }
        found = {key: points.get(key, []) for key in expected}
        assert mlflow.once(found) == mlflow.once(expected), name
        others = set(points) - set(expected)
        assert others <= {row.named(key) for key in CLOSING}, name


def ledger_rows(trained: Trained, names: Collection[str]) -> list[LedgerRow]:
    """The trackers' own."""
    rows = {row.subscriber: row for row in trained.trainer.ledger}
    return [rows[type(TRACKERS[name].make()).__name__] for name in names]


def test_all_are_complete_when_train_returns(trained_together: Callable[..., Trained]) -> None:
    trained = trained_together(TRACKERS)
    assert_complete(trained, TRACKERS)
    for row in ledger_rows(trained, TRACKERS):
        told = (row.delivery, row.failures, row.quarantined, dict(row.dropped), row.pending)
        assert told == ("process", 0, "", {}, 0), row.subscriber
        assert row.handled == row.accepted, row.subscriber


def test_one_whose_server_never_answers_holds_up_neither_the_others_nor_the_end_for_long(
    trained_together: Callable[..., Trained],
) -> None:
    way = FailingWay(None)
    hangs = HangingTracker(way.port, STEPS // 2 + 1)
    trained = trained_together(BESIDE_ONE_THAT_HANGS, hangs, drain_timeout_s=DRAIN_S)
    ended = time.time()
    assert way.connections == 1
    assert_complete(trained, BESIDE_ONE_THAT_HANGS)
    last = trained.checkpoints.logged_at[STEPS, "loss"]
    # The deadline, and what a process that does not end by itself is given to be ended.
    assert ended - last < DRAIN_S + 12.0
    assert any("HangingTracker" in line for line in trained.trainer.ledger.troubles)
    for row in ledger_rows(trained, BESIDE_ONE_THAT_HANGS):
        assert not row.failures, row.subscriber
    way.refuse()
