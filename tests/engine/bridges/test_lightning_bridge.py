"""Lightning's Trainer with the bus behind it: the same training, and every call on the bus."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from stepbus import (
    Event,
    EventBus,
    LightningBridge,
    Log,
    RunFailed,
    Save,
    StepEnd,
    TrainBegin,
    TrainEnd,
    Vote,
)
from stepbus.engine.bridges.lightning_names import NAMES
from tests.engine.bridges.their_lightning import (
    Recording,
    Regression,
    fit,
    loader,
    make_trainer,
    module,
)

OF_CALLBACKS = {name.theirs for name in NAMES if name.theirs.startswith("on_")}

pytestmark = pytest.mark.filterwarnings(
    "ignore::lightning_fabric.utilities.warnings.PossibleUserWarning",
    "ignore:Be aware that when using `ckpt_path`:UserWarning",
)


def record(bus: EventBus, **options: Any) -> list[Event]:
    events: list[Event] = []
    bus.subscribe("*", **options)(events.append)
    return events


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


def bridged(
    folder: Path, bus: EventBus, *callbacks: Any, **changes: Any
) -> tuple[pl.Trainer, LightningBridge]:
    bridge = LightningBridge(bus)
    return make_trainer(folder, bridge, *callbacks, **({"logger": bridge.logger} | changes)), bridge


def kept(folder: Path) -> list[tuple[int, str, float]]:
    """What Lightning's CSV logger has written."""
    (path,) = folder.rglob("metrics.csv")
    header, *rows = [line.split(",") for line in path.read_text().splitlines()]
    at = header.index("step")
    return [
        (int(row[at]), name, float(value))
        for row in rows
        for name, value in zip(header, row, strict=True)
        if value and name != "step"
    ]


def test_losses_and_weights_are_bit_equal_with_a_gate_handler_that_draws(tmp_path: Path) -> None:
    plain = fit(make_trainer(tmp_path / "plain", logger=CSVLogger(tmp_path / "plain")))
    bus = EventBus()
    events = record(bus)
    bus.subscribe("step_end", delivery="gate")(lambda event: torch.rand(3).tolist() and None)
    trained = fit(bridged(tmp_path / "bridged", bus)[0]).state_dict()
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, trained[name]), name
    logs = [event for event in events if isinstance(event, Log)]
    assert sorted(kept(tmp_path / "plain")) == sorted(
        (event.step, name, value) for event in logs for name, value in event.logs.items()
    )


def follow(bus: EventBus, seen: list[tuple[str, str]]) -> Recording:
    """Writes down the hooks that a callback of theirs sees, and the events as they are made."""
    bus.subscribe("*", delivery="gate")(lambda event: seen.append(("event", event.name)))
    recording = Recording()
    recording.seen = Writes(seen)
    return recording


class Writes(list[str]):
    """Names a hook among the events."""

    def __init__(self, seen: list[tuple[str, str]]) -> None:
        super().__init__()
        self._all = seen

    def append(self, name: str) -> None:
        self._all.append(("hook", name))


def agree(seen: list[tuple[str, str]]) -> list[str]:
    """Each hook of the table has been answered with its event, and no event is without a call."""
    waiting: list[str] = []
    answered: list[str] = []
    sanity = False
    for what, name in seen:
        if what == "event":
            waiting.append(name)
            continue
        sanity = name == "on_sanity_check_start" or (sanity and name != "on_sanity_check_end")
        if name not in OF_CALLBACKS or sanity:
            continue
        # What no callback of theirs hears of may lie between.
        others = [n.ours for n in NAMES if n.theirs not in OF_CALLBACKS]
        found = [each for each in waiting if each not in others]
        if not found and name == "on_train_batch_start":
            continue  # A further micro-batch of its step.
        event = found[0]
        assert (name, event) in {(n.theirs, n.ours) for n in NAMES}, (name, waiting)
        waiting.remove(event)
        answered.append(event)
    assert set(waiting) <= {"optimizer_step", "log", "save"}
    return answered


def test_events_come_in_the_order_of_the_hooks_of_a_callback_beside_it(tmp_path: Path) -> None:
    bus = EventBus()
    seen: list[tuple[str, str]] = []
    recording = follow(bus, seen)
    trainer, _ = bridged(
        tmp_path, bus, recording, ModelCheckpoint(), accumulate_grad_batches=2, val_check_interval=2
    )
    fit(trainer)
    answered = agree(seen)
    assert answered.count("step_end") == answered.count("step_begin") == trainer.global_step == 4
    assert answered.count("substep_end") == 2
    assert answered.count("evaluate") == 2
    assert answered.count("prediction_step") == 4
    assert (answered[0], answered[-1]) == ("init_end", "train_end")


def test_a_run_begins_and_ends_as_its_trainer_does(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    trainer, bridge = bridged(tmp_path, bus)
    model = Regression(0.02, hub_token="hf_secret")
    trainer.fit(model, loader(12, seed=0))
    begin = next(event for event in events if isinstance(event, TrainBegin))
    assert dict(begin.arguments) == {"learning_rate": 0.02, "hub_token": "<HUB_TOKEN>"}
    assert (begin.model, begin.max_steps, begin.steps_per_epoch) == ("Regression", 6, 3)
    assert begin.num_parameters == sum(each.numel() for each in model.parameters())
    assert begin.num_train_epochs == 2.0
    folder = tmp_path / "lightning_logs" / "version_0"
    assert begin.output_dir == str(folder)
    assert (folder / "ledger.json").exists()
    end = events[-1]
    assert isinstance(end, TrainEnd)
    assert (end.status, end.step) == ("finished", 6)
    assert end.metrics["loss_epoch"] == float(trainer.callback_metrics["loss_epoch"])
    assert not bus.running
    assert bridge.summary is not None
    assert bridge.summary.status == "finished"


def test_steps_carry_their_times_and_the_rate_that_they_used(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    fit(bridged(tmp_path, bus)[0])
    steps = [event for event in events if isinstance(event, StepEnd)]
    rates = [step.learning_rate for step in steps]
    assert rates == pytest.approx([0.05 * 0.9**n for n in range(6)])
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [round(step.epoch, 3) for step in steps] == [0.333, 0.667, 1.0, 1.333, 1.667, 2.0]
    assert all(step.step_s > step.data_wait_s > 0 for step in steps)


def test_a_gate_handlers_stop_acts_at_its_very_step(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)

    @bus.subscribe("step_end", delivery="gate", name="voter")
    def voter(event: StepEnd) -> Any:
        return Vote("stop", reason="enough") if event.step == 2 else None

    trainer, _ = bridged(tmp_path, bus)
    fit(trainer)
    assert trainer.global_step == 2
    end = events[-1]
    assert isinstance(end, TrainEnd)
    assert (end.status, end.reason, end.stopped_by) == ("stopped", "enough", "voter")


def test_a_failure_ends_the_run_as_failed_and_stops_the_bus(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)

    class Breaks(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 2:
                raise ZeroDivisionError("no more")

    trainer, bridge = bridged(tmp_path, bus, Breaks(), ModelCheckpoint(save_on_exception=True))
    with pytest.raises(ZeroDivisionError):
        fit(trainer)
    failed, saved = events[-1], events[-2]
    assert isinstance(failed, RunFailed)
    assert isinstance(saved, Save)
    assert (failed.error, failed.message, failed.step) == ("ZeroDivisionError", "no more", 2)
    assert Path(saved.path).stat().st_size == saved.num_bytes
    assert not bus.running
    assert bridge.summary is not None
    assert bridge.summary.status == "failed"
    assert "save_checkpoint" not in vars(trainer)


def test_checkpoints_are_announced_with_their_path_whoever_writes_them(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)

    class Writer(pl.Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            trainer.save_checkpoint(tmp_path / f"by_hand_{trainer.current_epoch}.ckpt")

    keeps = ModelCheckpoint(monitor="val_loss", save_top_k=-1)
    fit(bridged(tmp_path, bus, Writer(), keeps)[0])
    saves = [event for event in events if isinstance(event, Save)]
    by_hand = [str(tmp_path / f"by_hand_{epoch}.ckpt") for epoch in (0, 1)]
    assert {event.path for event in saves} == {*keeps.best_k_models, *by_hand}
    assert all(Path(event.path).stat().st_size == event.num_bytes > 0 for event in saves)
    assert [event.path for event in saves if event.best][-1] == keeps.best_model_path


def test_a_fit_from_a_checkpoint_is_the_next_attempt_of_its_run(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    keeps = ModelCheckpoint(every_n_train_steps=3, save_top_k=-1)
    fit(bridged(tmp_path, bus, keeps)[0])
    first = events[-1].run_id
    path = next(event.path for event in events if isinstance(event, Save))
    events.clear()
    fit(bridged(tmp_path, bus)[0], ckpt_path=path)
    begin = next(event for event in events if isinstance(event, TrainBegin))
    assert (begin.run_id, begin.attempt, begin.step) == (first, 2, 3)
    assert begin.resumed_from == path


def test_two_fits_on_one_bus_are_two_runs(tmp_path: Path) -> None:
    with EventBus() as bus:
        events = record(bus)
        for name in ("one", "two"):
            fit(bridged(tmp_path / name, bus)[0])
        bus.flush(20)
    ends = [event for event in events if isinstance(event, TrainEnd)]
    assert len({event.run_id for event in ends}) == len(ends) == 2


def test_evaluations_outside_of_a_fit_are_sessions_of_its_run(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    bridge = LightningBridge(bus)
    model = module()
    trainer = make_trainer(tmp_path, bridge, logger=bridge.logger)
    with bridge:
        trainer.fit(model, loader(12, seed=0))
        bus.flush(20)
        events.clear()
        trainer.validate(model, loader(8, seed=1), verbose=False)
        trainer.test(model, loader(8, seed=1), verbose=False)
        trainer.predict(model, loader(8, seed=1))
    steps = ["prediction_step", "prediction_step"]
    assert names(events) == [
        *("init_end", *steps, "log", "evaluate"),
        *("init_end", *steps, "log", "predict"),
        *("init_end", *steps, "predict"),
    ]
    found = [dict(getattr(e, "metrics", {})) for e in events if e.name in ("evaluate", "predict")]
    assert [list(each) for each in found] == [["val_loss"], ["test_loss"], []]
    assert len({event.run_id for event in events}) == 1


def test_without_the_logger_one_line_says_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = EventBus()
    events = record(bus)
    fit(bridged(tmp_path, bus, logger=False)[0])
    assert names(events)[-1] == "train_end"
    said = capsys.readouterr().err + caplog.text
    assert said.count("give it logger=bridge.logger") == 1


def test_importing_the_bridge_loads_neither_torch_nor_lightning_before_it_is_asked_for() -> None:
    program = (
        "import sys, stepbus; from stepbus import EventBus; "
        "assert not {'torch', 'pytorch_lightning'} & set(sys.modules); "
        "from stepbus import LightningBridge; "
        "assert 'pytorch_lightning' not in sys.modules; "
        "bridge = LightningBridge(); import pytorch_lightning as pl; "
        "assert isinstance(bridge, pl.Callback) and isinstance(bridge.logger, pl.loggers.Logger)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
