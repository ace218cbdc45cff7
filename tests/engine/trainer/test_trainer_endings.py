"""Trainings that are voted down from outside, drain, meet a full disk: all ends in good order."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepbus import CheckpointError, StepbusError, Subscriber, Trainer
from stepbus.engine import ending
from stepbus.engine.checkpoint import list_checkpoints, read_checkpoint
from tests.engine.trainer.conftest import Watcher, samples
from tests.engine.trainer.left_behind import (
    AtStep,
    Data,
    FailsAt,
    nothing_left_behind,
    what_lives,
)

Make = Callable[..., Trainer]
ENDLESS = 1_000_000


@pytest.fixture(autouse=True)
def _nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    with nothing_left_behind(tmp_path):
        yield


@pytest.mark.slow
def test_an_empty_file_named_stop_ends_the_training(make_trainer: Make, tmp_path: Path) -> None:
    votes, watcher = tmp_path / "out" / "votes", Watcher()

    def touch() -> None:
        votes.mkdir()
        (votes / "stop").touch()

    trainer = make_trainer(given={"callbacks": [watcher, AtStep(3, touch)]}, max_steps=ENDLESS)
    result = trainer.train()
    assert 3 < result.global_step < ENDLESS
    (verdict,) = watcher.of("verdict")
    assert (verdict.action, verdict.outcome) == ("stop", "acted")
    assert [vote.voter for vote in verdict.votes] == ["file:stop"]
    (done,) = (votes / "done").iterdir()
    assert '"outcome": "acted"' in done.read_text()
    assert not (votes / "stop").exists()
    assert trainer.summary is not None
    assert trainer.summary.status == "stopped"


@pytest.mark.slow
def test_the_command_line_has_a_training_save_and_stop(make_trainer: Make, tmp_path: Path) -> None:
    watcher, answers = Watcher(), []

    def vote() -> None:
        for action in ("save", "stop"):
            words = ["vote", str(tmp_path / "out"), action, "--reason", "enough", "--voter", "ann"]
            answers.append(
                subprocess.run(
                    [sys.executable, "-m", "stepbus", *words],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=60,
                    check=False,
                    text=True,
                )
            )

    thread = threading.Thread(target=vote)
    given = {"callbacks": [watcher, AtStep(3, thread.start)]}
    trainer = make_trainer(given=given, max_steps=ENDLESS)
    step = trainer.train().global_step
    thread.join(60)
    save, stop = answers
    assert save.returncode == 0, save.stdout + save.stderr
    assert save.stdout.startswith("save acted at step ")
    assert stop.returncode == 0, stop.stdout + stop.stderr
    (checkpoint,) = list_checkpoints(str(tmp_path / "out"))
    assert 3 <= read_checkpoint(checkpoint).step <= step
    voters = [(v.action, [vote.voter for vote in v.votes]) for v in watcher.of("verdict")]
    assert voters == [("save", ["ann"]), ("stop", ["ann"])]


def test_another_thread_stops_the_training_by_its_bus(make_trainer: Make) -> None:
    watcher = Watcher()
    trainer = make_trainer(given={"callbacks": [watcher]}, max_steps=ENDLESS)

    def vote() -> None:
        trainer.bus.vote("save", reason="before we go", voter="ann")
        trainer.bus.vote("stop", reason="lunch", voter="ann")

    thread = threading.Thread(target=vote)
    trainer.add_callback(AtStep(3, thread.start))
    assert 3 <= trainer.train().global_step < ENDLESS
    thread.join(10)
    end = watcher.of("train_end")[0]
    assert (end.status, end.stopped_by, end.reason) == ("stopped", "ann", "lunch")
    assert len(watcher.of("save")) == 1


@pytest.mark.slow
def test_a_failed_training_waits_ten_seconds_at_most(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ending.AFTER_ERROR_S == 10
    monkeypatch.setattr(ending, "AFTER_ERROR_S", 0.3)
    trainer = make_trainer(model=FailsAt(ValueError("broken")), drain_timeout_s=60)
    started = time.monotonic()
    with stuck_subscriber(trainer), pytest.raises(ValueError, match="broken"):
        trainer.train()
    assert time.monotonic() - started < 20


class stuck_subscriber:  # noqa: N801
    """For the length of the block, a subscriber of a trainer's does not return from its event."""

    def __init__(self, trainer: Trainer) -> None:
        self._release = threading.Event()
        self._entered = threading.Event()
        stuck = self

        class Stuck(Subscriber):
            def on_step_end(self, event: Any) -> None:
                stuck._entered.set()
                stuck._release.wait(60)

        trainer.add_callback(Stuck)
        trainer.add_callback(AtStep(1, lambda: self._entered.wait(30)))

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self._release.set()
        for thread in threading.enumerate():
            if thread.name == "stepbus-Stuck":
                thread.join(30)


@pytest.mark.slow
def test_a_stuck_subscriber_is_named_and_does_not_hold_up_the_end(
    make_trainer: Make, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher()
    trainer = make_trainer(given={"callbacks": [watcher]}, drain_timeout_s=0.5)
    with stuck_subscriber(trainer):
        started = time.monotonic()
        assert trainer.train().global_step == 12
        seconds = time.monotonic() - started
    assert seconds < 20
    assert any("Stuck" in record.getMessage() for record in caplog.records)
    assert watcher.names()[-1] == "train_end", "the others have all they were to have"
    (row,) = [row for row in trainer.ledger if row.subscriber == "Stuck"]
    assert row.stuck


def test_a_with_block_that_an_error_leaves_waits_ten_seconds_at_most(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float | None] = []
    trainer = make_trainer(drain_timeout_s=60)
    stop = trainer.bus.stop

    def note(seconds: float | None = None) -> None:
        waited.append(seconds)
        stop(seconds)

    monkeypatch.setattr(trainer.bus, "stop", note)

    def fail() -> None:
        with trainer:
            trainer.train()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with trainer:
        trainer.train()
    assert waited == [10.0, 60.0]


@pytest.mark.parametrize("call", ["train", "evaluate", "predict", "log", "with"])
def test_each_call_leaves_the_process_as_it_was(
    make_trainer: Make, tmp_path: Path, call: str
) -> None:
    trainer = make_trainer(
        given={"eval_dataset": samples(8), "callbacks": [Watcher()]}, save_strategy="epoch"
    )
    before = what_lives()
    for _ in range(2):
        if call == "predict":
            trainer.predict(samples(4))
        elif call == "log":
            trainer.log({"value": 1.0})
        elif call == "with":
            with trainer:
                trainer.evaluate()
                trainer.train()
        else:
            getattr(trainer, call)()
        assert what_lives() == before
        assert not trainer.bus.running


def test_a_full_disk_is_one_error_and_harms_no_earlier_checkpoint(
    make_trainer: Make, tmp_path: Path
) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8000)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": (self.layer(x).mean(1, keepdim=True) - labels).square().mean()}

    watcher = Watcher()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = AtStep(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most)))
    trainer = make_trainer(
        model=Large(),
        given={"callbacks": [watcher, fill]},
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
    )
    try:
        with pytest.raises(CheckpointError) as caught:
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    message = str(caught.value)
    assert "checkpoint-4 was not written to" in message
    assert "File too large" in message
    assert "Earlier checkpoints are untouched" in message
    (failed,) = watcher.of("run_failed")
    assert (failed.error, failed.step) == ("CheckpointError", 4)
    assert [event.step for event in watcher.of("save")] == [2]
    assert [path.name for path in list_checkpoints(str(tmp_path / "out"))] == ["checkpoint-2"]
    trainer.pop_callback(fill)
    assert trainer.train(resume_from_checkpoint=True).global_step == 12


@pytest.mark.slow
def test_in_workers_of_the_data_the_bus_is_inert_and_says_so(make_trainer: Make) -> None:
    class Meddles(Data):
        trainer: Trainer

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            refused = torch.zeros(())
            for call in (lambda: self.trainer.bus.vote("stop"), lambda: self.trainer.log({"a": 1})):
                try:
                    call()
                except StepbusError as error:
                    refused += "forked" in str(error)
            own = [name for t in threading.enumerate() if (name := t.name).startswith("stepbus")]
            return {**self.samples[index], "refused": refused, "threads": torch.tensor(len(own))}

    class Looks(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **keywords: Any) -> Any:
            refused.append(inputs.pop("refused").tolist())
            threads.append(inputs.pop("threads").tolist())
            return super().compute_loss(model, inputs, *given, **keywords)

    refused: list[list[float]] = []
    threads: list[list[int]] = []
    data, watcher = Meddles(), Watcher()
    trainer = make_trainer(
        trainer_class=Looks,
        given={"train_dataset": data, "callbacks": [watcher]},
        dataloader_num_workers=2,
        remove_unused_columns=False,
    )
    data.trainer = trainer
    assert trainer.train().global_step == 24
    assert refused == [[2.0] * 4] * 24
    assert threads == [[0] * 4] * 24
    assert watcher.names().count("step_end") == 24
    assert not watcher.of("verdict")
