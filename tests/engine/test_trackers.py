"""Trackers of a run work in another process where they can, and say where they write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stepbus import ArgumentError, TensorBoardCallback, Trainer, TrainingArguments
from tests.subscribers.test_tensorboard import scalars

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


class Renamed(TensorBoardCallback):
    """Calls a hook of its own on the training thread."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        super().on_log(args, state, control, logs={"mine": logs.get("loss", 0.0)}, **kwargs)


def delivery_of(loop: Loop, name: str) -> str:
    return next(row.delivery for row in loop.run.ledger if row.subscriber == name)


def test_tensorboard_works_in_another_process_and_writes_what_was_logged(loop: Loop) -> None:
    board = TensorBoardCallback()
    loop.train(callbacks=[board], logging_strategy="steps", logging_steps=4)
    assert delivery_of(loop, "TensorBoardCallback") == "process"
    folder = Path(loop.run.tracker("tensorboard")["folder"])
    assert board.logging_dir == folder
    assert folder.parent == loop.output_dir / "runs"
    logged = [(row["step"], row["loss"]) for row in loop.run.state.log_history if "loss" in row]
    written = scalars(folder, "train/loss")
    assert [step for step, _ in written] == [step for step, _ in logged]
    assert [loss for _, loss in written] == pytest.approx([loss for _, loss in logged], rel=1e-6)


def test_an_argument_of_the_callback_crosses(loop: Loop, tmp_path: Path) -> None:
    loop.train(
        callbacks=[TensorBoardCallback(logging_dir=tmp_path / "board")],
        logging_strategy="steps",
        logging_steps=4,
    )
    assert delivery_of(loop, "TensorBoardCallback") == "process"
    assert [step for step, _ in scalars(tmp_path / "board", "train/loss")] == [4, 8, 12]


def test_one_with_a_hook_on_the_training_thread_stays_and_says_why(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.train(callbacks=[Renamed()], logging_strategy="steps", logging_steps=4)
    assert delivery_of(loop, "Renamed") == "thread"
    (line,) = [text for text in caplog.messages if "works in a thread" in text]
    assert "Renamed.on_log" in line
    folder = Path(loop.run.tracker("tensorboard")["folder"])
    assert [step for step, _ in scalars(folder, "train/mine")] == [4, 8, 12, 12]


def test_a_writer_of_the_program_s_own_stays_with_it(loop: Loop) -> None:
    class Writer:
        def __init__(self) -> None:
            self.steps: list[int] = []

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            if tag == "train/loss":
                self.steps.append(step)

        def add_text(self, tag: str, text: str, step: int) -> None: ...

        def flush(self) -> None: ...

    writer = Writer()
    loop.train(callbacks=[TensorBoardCallback(writer)], logging_strategy="steps", logging_steps=4)
    assert delivery_of(loop, "TensorBoardCallback") == "thread"
    assert writer.steps == [4, 8, 12]


def test_a_tracker_that_is_not_there_is_an_error_with_those_that_are(loop: Loop) -> None:
    loop.train(callbacks=[TensorBoardCallback()])
    with pytest.raises(ArgumentError, match=r"no tracker 'wandb' in this run: there are tensorb"):
        loop.run.tracker("wandb")


def test_the_trainer_tells_too(loop: Loop, tmp_path: Path) -> None:
    args = TrainingArguments(str(tmp_path), max_steps=1, save_strategy="no")
    trainer = Trainer(
        loop.model, args, train_dataset=loop.samples, callbacks=[TensorBoardCallback()]
    )
    assert trainer.tracker("tensorboard") == {}
