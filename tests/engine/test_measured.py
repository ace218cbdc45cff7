"""What subscribers measure stands in the logs of the run, in its history and closing figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepbus import (
    EpochEnd,
    EventBus,
    Log,
    Measured,
    Subscriber,
    Trainer,
    TrainingArguments,
)
from stepbus.bus.testing import Recorder
from stepbus.engine.bridges.bridged_run import BridgedRun
from tests.engine.trainer.conftest import Regression, samples

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


class Meter(Subscriber):
    """Measures at each log, and at the end of each epoch."""

    def __init__(self) -> None:
        self.num_logs = 0

    def on_log(self, event: Log) -> Measured:
        self.num_logs += 1
        return Measured({"logs_seen": self.num_logs, "loss": -1.0})

    def on_epoch_end(self, event: EpochEnd) -> Measured:
        return Measured({"epoch_seen": event.epoch})


def values_of(logs: list[Any], name: str) -> dict[int, Any]:
    return {event.step: event.logs[name] for event in logs if name in event.logs}


def test_values_join_the_logs_that_are_due_and_make_none(loop: Loop) -> None:
    meter = Meter()
    loop.in_step = lambda loop: loop.run.bus.flush(10)
    loop.train(callbacks=[meter], logging_strategy="steps", logging_steps=2)
    *logs, closing = loop.recorder.of("log")
    assert [event.step for event in logs] == [2, 4, 6, 8, 10, 12]
    # What one log led to stands in the next.
    assert values_of(logs, "logs_seen") == {4: 1, 6: 2, 8: 3, 10: 4, 12: 5}
    assert values_of(logs, "epoch_seen") == {8: 1.0}
    # The run's own values win.
    assert min(values_of(logs, "loss").values()) > 0
    # Measured after the last step, there among the closing figures: the newest of each.
    newest = {"logs_seen": 6, "epoch_seen": 2.0}
    (end,) = loop.recorder.of("train_end")
    assert loop.run.summary is not None
    history = loop.run.state.log_history
    for found in (closing.logs, end.metrics, loop.run.summary.metrics, history[-1]):
        assert newest.items() <= found.items()
    assert [row["logs_seen"] for row in history if "logs_seen" in row] == [1, 2, 3, 4, 5, 6]
    assert meter.num_logs == 7


def test_without_a_log_there_are_the_closing_figures(loop: Loop) -> None:
    loop.train(callbacks=[Meter()])
    (closing,) = loop.recorder.of("log")
    assert closing.logs["epoch_seen"] == 2.0
    assert "logs_seen" not in closing.logs


def test_the_trainer_gives_them_back(tmp_path: Path) -> None:
    args = TrainingArguments(str(tmp_path), max_steps=4, save_strategy="no", use_cpu=True)
    trainer = Trainer(model=Regression(), args=args, train_dataset=samples(), callbacks=[Meter()])
    output = trainer.train()
    assert output.metrics["epoch_seen"] == trainer.state.epoch
    assert trainer.summary is not None
    assert trainer.summary.metrics == output.metrics


def test_they_stand_in_the_logs_of_somebody_elses_trainer(tmp_path: Any) -> None:
    recorder = Recorder()
    with EventBus() as bus:
        bus.subscribe(recorder)
        bus.subscribe(Meter())
        run = BridgedRun(bus, {}, output_dir=tmp_path)
        run.open()
        run.begin({})
        for step in (1, 2):
            run.at(step, step / 2)
            run.log({"loss": 0.5}, {"loss": 0.5, "step": step})
            run.hear_out(10)
        run.emit("epoch_end")
        run.hear_out(10)
        run.finish({"train_loss": 0.5})
        run.close()
    first, second = recorder.of("log")
    assert dict(first.logs) == {"loss": 0.5}
    assert dict(second.logs) == {"logs_seen": 1, "loss": 0.5}
    assert run.state.log_history[-1] == {"logs_seen": 1, "loss": 0.5, "step": 2}
    assert run.summary is not None
    expected = {"logs_seen": 2, "loss": -1.0, "epoch_seen": 1.0, "train_loss": 0.5}
    assert dict(run.summary.metrics) == expected
