"""Lightning's other name, its other ends: a limit of steps, Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl

from stepbus import EventBus, LightningBridge, StepEnd, TrainBegin, TrainEnd
from stepbus.schemas import RunFailed
from tests.engine.bridges.test_lightning_bridge import bridged, record
from tests.engine.bridges.their_lightning import fit

UNDER_THEIR_OTHER_NAME = """
import sys
import torch
from torch.utils.data import DataLoader, TensorDataset
import lightning.pytorch as pl
from stepbus import EventBus, LightningBridge

assert "pytorch_lightning" not in sys.modules

class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def training_step(self, batch, index):
        loss = self.layer(batch[0]).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

bus, seen, logged = EventBus(), [], []
bus.subscribe("*")(lambda event: seen.append(event.name))
bus.subscribe("log")(lambda event: logged.append((event.step, sorted(event.logs))))
bridge = LightningBridge(bus)
assert isinstance(bridge, pl.Callback)
trainer = pl.Trainer(
    accelerator="cpu", max_epochs=1, default_root_dir=sys.argv[1], callbacks=[bridge],
    logger=bridge.logger, log_every_n_steps=1, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)
trainer.fit(Module(), DataLoader(TensorDataset(torch.randn(12, 3)), 4))
assert "pytorch_lightning" not in sys.modules
assert (seen[0], seen[-1], seen.count("step_end")) == ("init_end", "train_end", 3), seen
assert [step for step, _ in logged] == [0, 1, 2], logged  # as its loggers count
assert all("loss" in names for _, names in logged), logged
print("DONE")
"""


@pytest.mark.slow
def test_it_is_a_callback_of_lightning_under_its_other_name_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", UNDER_THEIR_OTHER_NAME, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "STEPBUS_REPORT_TO": "none"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "DONE" in done.stdout


def test_a_limit_of_steps_is_the_runs_and_ends_it_as_finished(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)
    trainer, _ = bridged(tmp_path, bus, max_epochs=-1, max_steps=4)
    fit(trainer)
    begin = next(event for event in events if isinstance(event, TrainBegin))
    assert begin.max_steps == 4
    assert [event.step for event in events if isinstance(event, StepEnd)] == [1, 2, 3, 4]
    end = events[-1]
    assert isinstance(end, TrainEnd)
    assert (end.status, end.step) == ("finished", 4)


def test_ctrl_c_ends_the_run_as_failed_and_stops_the_bus(tmp_path: Path) -> None:
    bus = EventBus()
    events = record(bus)

    class Interrupts(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
            if trainer.global_step == 2:
                raise KeyboardInterrupt

    trainer, bridge = bridged(tmp_path, bus, Interrupts())
    with pytest.raises(SystemExit):
        fit(trainer)
    failed = events[-1]
    assert isinstance(failed, RunFailed)
    assert (failed.error, failed.step) == ("KeyboardInterrupt", 2)
    assert not bus.running
    assert isinstance(bridge, LightningBridge)
    assert bridge.summary is not None
    assert bridge.summary.status == "failed"
