"""`ledger.json` in the run's folder: what a training leaves for who asks when it is over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from stepbus import Log, StepEnd, Subscriber, Trainer, TrainingArguments
from stepbus.bus.ledger_file import FILE, LedgerFile, read_ledger

from .conftest import Loop


class Fails(Subscriber):
    """Cannot handle a log."""

    def on_log(self, event: Log) -> None:
        raise ConnectionError("the server is away")


def written(loop: Loop) -> LedgerFile:
    return read_ledger(loop.output_dir)


def test_a_finished_run_leaves_the_ledger_of_its_summary(loop: Loop) -> None:
    loop.train(max_steps=4)
    summary, document = loop.run.summary, written(loop)
    assert summary is not None
    assert document.ledger == summary.ledger
    assert (document.status, document.global_step) == ("finished", 4)
    assert document.runtime_s == summary.runtime_s
    assert document.ledger.run is not None
    assert document.ledger.run.run_id == loop.run.run_id
    assert not [path.name for path in loop.output_dir.iterdir() if path.name.startswith(".")]


def test_a_run_that_failed_leaves_one_that_says_why(loop: Loop) -> None:
    def fail(loop: Loop) -> None:
        if loop.steps_done == 2:
            raise ValueError("no")

    loop.in_step = fail
    with pytest.raises(ValueError, match="no"):
        loop.train(max_steps=4)
    document = written(loop)
    assert (document.status, document.reason) == ("failed", "ValueError: no")
    assert document.ledger["Recorder"].handled == len(loop.recorder.events)


def test_a_run_that_was_stopped_says_so(loop: Loop) -> None:
    loop.in_step = lambda loop: loop.run.vote("stop", reason="enough", voter="me")
    loop.train(max_steps=4)
    document = written(loop)
    assert (document.status, document.reason, document.global_step) == ("stopped", "enough", 1)


def test_the_next_attempt_takes_the_place_of_the_last(new_loop: Callable[..., Loop]) -> None:
    new_loop().train(max_steps=2, save_strategy="steps", save_steps=2)
    loop = new_loop()
    loop.train(max_steps=5, resume_from_checkpoint=True)
    run = written(loop).ledger.run
    assert run is not None
    assert (run.attempt, run.steps, written(loop).global_step) == (2, 3, 5)


def test_a_folder_that_is_gone_is_said_and_no_more(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.in_step = lambda loop: shutil.rmtree(loop.output_dir, ignore_errors=True)
    loop.train(max_steps=2)
    assert "the ledger could not be written" in caplog.text
    assert loop.run.summary is not None
    assert loop.run.summary.status == "finished"


def test_who_was_off_is_told_at_the_end(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.train(max_steps=6, logging_strategy="steps", logging_steps=1, callbacks=[Fails()])
    (said,) = [r.getMessage() for r in caplog.records if "was off" in r.getMessage()]
    (line,) = said.splitlines()[1:]
    assert line.startswith("  Fails was quarantined (5 failures in a row, the last: ConnectionErr")
    assert line.endswith("did not get 2 events (2 quarantine)")


def test_nothing_is_told_where_all_went_well(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.train(max_steps=3)
    assert "was off" not in caplog.text


class Sum(nn.Module):
    """A model with the reference's call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
        logits = self.layer(x)
        return {"loss": nn.functional.mse_loss(logits, labels), "logits": logits}


def test_an_evaluation_leaves_the_ledger_of_the_training(loop: Loop) -> None:
    samples = [{"x": torch.randn(2), "labels": torch.randn(1)} for _ in range(8)]
    args = TrainingArguments(str(loop.output_dir), max_steps=2, save_strategy="no", use_cpu=True)
    seen: list[StepEnd] = []
    trainer = Trainer(Sum(), args, train_dataset=samples, eval_dataset=samples)
    trainer.bus.subscribe(StepEnd, name="steps")(seen.append)
    trainer.evaluate()
    assert not (loop.output_dir / FILE).exists()
    trainer.train()
    before = (loop.output_dir / FILE).read_bytes()
    assert written(loop).ledger["steps"].handled == len(seen) == 2
    assert trainer.ledger == written(loop).ledger
    trainer.evaluate()
    assert (loop.output_dir / FILE).read_bytes() == before
    assert trainer.summary is not None
    assert trainer.summary.ledger == written(loop).ledger
