"""Four trackers behind the trainers of others: the same training, and all that was logged."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from stepbus import (
    CodeCarbonCallback,
    EventBus,
    LightningBridge,
    MLflowCallback,
    TensorBoardCallback,
    TransformersBridge,
    WandbCallback,
)
from stepbus.subscribers.reporter import tracker_key
from stepbus.subscribers.trackers.experiment import CLOSING
from tests.engine.bridges import their_lightning, their_trainer
from tests.subscribers.test_tensorboard import read
from tests.subscribers.trackers.conftest import (  # noqa: F401 - fixtures
    empty_database,
    mlflow_folder,
    mlflow_server,
)
from tests.subscribers.trackers.reading import codecarbon, mlflow, wandb

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::lightning_fabric.utilities.warnings.PossibleUserWarning",
    ),
]

Points = dict[str, list[tuple[int, float]]]
SETUP_S = 100.0
"""Four packages are imported at once, on whatever cores there are."""
TRACKERS = (TensorBoardCallback, WandbCallback, MLflowCallback, CodeCarbonCallback)


def by_transformers(folder: Path, bus: EventBus | None) -> nn.Module:
    """Their causal language model, evaluated after each epoch."""
    bridges = [] if bus is None else [TransformersBridge(bus)]
    trainer = their_trainer.make_trainer(folder, *bridges, eval_strategy="epoch")
    trainer.train()
    assert trainer.model is not None
    return trainer.model


def by_lightning(folder: Path, bus: EventBus | None) -> nn.Module:
    """Lightning's Trainer, with validation."""
    if bus is None:
        return their_lightning.fit(their_lightning.make_trainer(folder))
    bridge = LightningBridge(bus)
    trainer: pl.Trainer = their_lightning.make_trainer(folder, bridge, logger=bridge.logger)
    return their_lightning.fit(trainer)


@pytest.fixture
def offline(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    empty_database: Path,  # noqa: F811
) -> None:
    """Every tracker writes below a folder of the test, and asks nobody."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_ERROR_REPORTING": "false",
        "CODECARBON_COUNTRY_ISO_CODE": "DEU",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("trained", [by_transformers, by_lightning])
def test_four_trackers_have_all_that_was_logged_and_change_no_weight(
    tmp_path: Path, trained: Callable[[Path, EventBus | None], nn.Module]
) -> None:
    plain = trained(tmp_path / "plain", None).state_dict()
    bus = EventBus(setup_timeout=SETUP_S)
    expected: Points = {}

    @bus.subscribe("log", delivery="gate")
    def note(event: Any) -> None:
        for name, value in event.logs.items():
            if name not in CLOSING:
                expected.setdefault(name, []).append((event.step, value))

    for tracker in TRACKERS:
        bus.subscribe(tracker())
    folder = tmp_path / "bridged"
    bridged = trained(folder, bus).state_dict()
    for name, weight in plain.items():
        assert torch.equal(weight, bridged[name]), name

    assert len(expected["loss" if "loss" in expected else "loss_step"]) == 6
    (at,) = {path.parent for path in folder.rglob("run.json")}
    (board,) = {path.parent for path in folder.rglob("events.out.tfevents.*")}
    tags = read(board)
    for name, points in expected.items():
        scalars = [(event.step, event.value) for event in tags.Scalars(tracker_key(name))]
        assert scalars == [(step, single(value)) for step, value in points], name
    (offline_run,) = wandb.offline_runs(at)
    assert of(expected, offline_run.all_points(), tracker_key) == renamed(expected, tracker_key)
    assert offline_run.exit_code == 0
    (stored,) = mlflow.stored_runs(tmp_path / "mlflow.db")
    # A point said twice within a millisecond, as the epoch is, is one point to MLflow.
    found = of(expected, stored.all_points(), str)
    assert {name: set(points) for name, points in found.items()} == {
        name: set(points) for name, points in expected.items()
    }
    assert stored.status == "FINISHED"
    (row,) = codecarbon.rows_of(at)
    assert row.values["energy_kwh"] > 0
    ledger = {row.subscriber: row for row in bus.ledger}
    for tracker in TRACKERS:
        entry = ledger[tracker.__name__]
        told = (entry.delivery, entry.failures, entry.quarantined, dict(entry.dropped))
        assert told == ("process", 0, "", {}), tracker
    bus.close()


def single(value: float) -> float:
    """As a number of 32 bits."""
    found: float = struct.unpack("f", struct.pack("f", value))[0]
    return found


def renamed(points: Points, name: Callable[[str], str]) -> Points:
    return {name(key): values for key, values in points.items()}


def of(expected: Points, found: Points, name: Callable[[str], str]) -> Points:
    """What was found of that which was logged."""
    return {name(key): found.get(name(key), []) for key in expected}
