"""Votes from the bus act in Lightning's Trainer, and what they ask for is on record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stepbus import (
    Evaluate,
    Event,
    EventBus,
    LightningBridge,
    Log,
    Save,
    TensorBoardCallback,
    TrainEnd,
    Verdict,
    Vote,
)
from tests.engine.bridges.their_lightning import Regression, fit, make_trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore::lightning_fabric.utilities.warnings.PossibleUserWarning"
)


def record(bus: EventBus) -> list[Event]:
    events: list[Event] = []
    bus.subscribe("*")(events.append)
    return events


def verdict(events: list[Event]) -> Verdict:
    (found,) = [event for event in events if isinstance(event, Verdict)]
    return found


class CastsAt(pl.Callback):
    """Casts a vote from outside of the bus's handlers, before a step."""

    def __init__(self, bus: EventBus, action: str, step: int) -> None:
        super().__init__()
        self.bus, self.action, self.step = bus, action, step

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.step - 1:
            self.bus.vote(self.action, reason="it is time", voter="somebody")


def trained(
    folder: Path, bus: EventBus, *callbacks: Any, validates: bool = True, **changes: Any
) -> tuple[Regression, pl.Trainer]:
    bridge = LightningBridge(bus)
    given = {"logger": bridge.logger, "log_every_n_steps": 50} | changes
    trainer = make_trainer(folder, bridge, *callbacks, **given)
    return fit(trainer, validates=validates), trainer


DONE = {"log": Log, "evaluate": Evaluate, "save": Save}


@pytest.mark.parametrize("action", ["log", "evaluate", "save"])
def test_what_is_asked_for_is_done_after_that_step_and_changes_no_weight(
    tmp_path: Path, action: str
) -> None:
    plain, _ = trained(tmp_path / "plain", EventBus())
    bus = EventBus()
    events = record(bus)
    model, trainer = trained(tmp_path / "voted", bus, CastsAt(bus, action, 2))
    found = verdict(events)
    assert (found.action, found.outcome, found.acted_at) == (action, "acted", 2)
    assert [(vote.voter, vote.reason) for vote in found.votes] == [("somebody", "it is time")]
    at = {"log": 1}.get(action, 2)  # Lightning's loggers count the steps from 0.
    assert at in [event.step for event in events if isinstance(event, DONE[action])]
    if action == "save":
        assert Path(found.detail).is_file()
    settings = ("log_every_n_steps", "val_check_batch", "check_val_every_n_epoch")
    assert [getattr(trainer, name) for name in settings] == [50, 3, 1]
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_a_checkpoint_that_was_voted_for_lies_beside_the_others(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    keeps = ModelCheckpoint(every_n_train_steps=100)
    trained(tmp_path, bus, keeps, CastsAt(bus, "save", 2))
    path = Path(verdict(events).detail)
    assert path.parent == Path(str(keeps.dirpath))
    assert torch.load(path, weights_only=False)["global_step"] == 2


def test_a_stop_of_a_handler_in_a_thread_ends_the_fit(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)

    @bus.subscribe("step_end", name="voter")
    def voter(event: Event) -> Vote | None:
        return Vote("stop", reason="enough") if event.step == 1 else None

    _, trainer = trained(tmp_path, bus, max_epochs=2000)
    assert trainer.global_step < 6000
    found = verdict(events)
    assert (found.action, found.outcome, found.seen_at) == ("stop", "acted", 1)
    end = events[-1]
    assert isinstance(end, TrainEnd)
    assert (end.status, end.reason, end.stopped_by) == ("stopped", "enough", "voter")


@pytest.mark.parametrize(
    ("action", "why"),
    [("evaluate", "has no data to validate on"), ("stop_epoch", "for its module alone")],
)
def test_what_lightning_has_no_means_for_is_refused_with_the_reason(
    tmp_path: Path, action: str, why: str
) -> None:
    bus = EventBus()
    events = record(bus)
    _, trainer = trained(tmp_path, bus, CastsAt(bus, action, 2), validates=False)
    found = verdict(events)
    assert (found.action, found.outcome) == (action, "refused")
    assert why in found.detail
    assert trainer.global_step == 6


def test_a_veto_holds_a_stop_off(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    bus.subscribe("step_end", delivery="gate", name="against")(
        lambda event: Vote("stop", against=True, reason="not yet") if event.step == 2 else None
    )
    _, trainer = trained(tmp_path, bus, CastsAt(bus, "stop", 2))
    assert trainer.global_step == 6
    assert verdict(events).outcome == "vetoed"


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    (path,) = folder.rglob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(path), size_guidance={"scalars": 0})
    accumulator.Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in tags}


def test_tensorboard_on_the_bus_holds_what_lightnings_own_logger_wrote(tmp_path: Path) -> None:
    bus = EventBus()
    bus.subscribe(TensorBoardCallback(logging_dir=tmp_path / "ours"), required=True)
    bridge = LightningBridge(bus)
    own = TensorBoardLogger(tmp_path / "theirs")
    fit(make_trainer(tmp_path, bridge, logger=[own, bridge.logger]))
    theirs, ours = scalars(tmp_path / "theirs"), scalars(tmp_path / "ours")
    assert set(theirs) >= {"loss_step", "loss_epoch", "val_loss", "epoch"}
    shown = {f"train/{tag}": points for tag, points in theirs.items()}
    assert {tag: ours[tag] for tag in shown if tag in ours} == {
        tag: points for tag, points in shown.items() if tag in ours
    }
    assert set(shown) - set(ours) <= {"train/epoch", "train/hp_metric"}
