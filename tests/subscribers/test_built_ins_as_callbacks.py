"""The built-ins in Hugging Face's shape: subclasses of them, and its own Trainer."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from stepbus.bus import Subscriber, TrainerCallback
from stepbus.bus.subscriber import overridden_hooks
from stepbus.schemas import TrainerState
from stepbus.subscribers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    TensorBoardCallback,
)

CONCURRENT = (PrinterCallback, ProgressCallback, TensorBoardCallback)


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    files = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    files.Reload()
    return [(event.step, event.value) for event in files.Scalars(tag)]


@pytest.mark.parametrize("built_in", CONCURRENT)
def test_they_are_callbacks_and_listen_to_nothing_in_the_gate(built_in: type[Any]) -> None:
    callback = built_in()
    assert isinstance(callback, TrainerCallback)
    assert isinstance(callback, Subscriber)
    assert overridden_hooks(callback) == frozenset()


@pytest.mark.parametrize("built_in", [*CONCURRENT, EarlyStoppingCallback])
def test_they_have_every_hook_of_the_reference(built_in: type[Any]) -> None:
    reference = import_module("transformers").TrainerCallback
    hooks = [name for name in dir(reference) if name.startswith("on_")]
    assert [name for name in hooks if not callable(getattr(built_in(), name, None))] == []


def test_a_subclass_that_edits_the_logs_writes_them_edited(
    live_run: Callable[..., Any], tmp_path: Path
) -> None:
    called_in = []

    class Board(TensorBoardCallback):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            called_in.append(threading.get_ident())
            logs = {f"eval_{name}": value * 10 for name, value in logs.items() if name != "skip"}
            super().on_log(args, state, control, logs=logs, **kwargs)

    board = Board(tmp_path)
    run = live_run(board)
    run.link.gate.add(board)
    run.emit("train_begin")
    for step in (10, 20):
        run.log(step, loss=step / 10, skip=1.0)
    run.finish()
    assert set(called_in) == {threading.get_ident()}
    assert scalars(tmp_path, "eval/loss") == [(10, 10.0), (20, 20.0)]


def test_a_subclass_of_the_printer_prints_what_it_hands_on(
    live_run: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    class Printer(PrinterCallback):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            logs.pop("secret", None)
            if logs:
                super().on_log(args, state, control, logs, **kwargs)

    printer = Printer()
    run = live_run(printer)
    run.link.gate.add(printer)
    run.log(1, loss=1.5, secret=2.0)
    run.log(2, secret=3.0)
    run.finish()
    assert capsys.readouterr().out == "{'loss': '1.5'}\n"


def test_a_subclass_of_the_progress_line_hands_on_steps_and_ends(
    live_run: Callable[..., Any], clock: Any
) -> None:
    class Progress(ProgressCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_train_begin(args, state, control, **kwargs)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % 2:
                super().on_step_end(args, state, control, **kwargs)

    out = io.StringIO()
    progress = Progress(stream=out, every_s=1e-9)
    run = live_run(progress, clock=clock)
    run.link.gate.add(progress)
    run.emit("train_begin", max_steps=4)
    for step in range(1, 5):
        clock.now += 1
        run.emit("step_end", step, loss=2.0)
    run.emit("train_end", 4)
    run.finish()
    assert [line.split("  ")[0] for line in out.getvalue().splitlines()] == [
        "training from step 0 to 4",
        "step 1/4",
        "step 3/4",
        "finished: 4 steps, 0:04 in this attempt",
    ]


def test_off_every_bus_the_printer_prints_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    printer: Any = PrinterCallback()
    printer.on_log(None, TrainerState(), None, logs={"loss": 1.5, "total_flos": 1.0})
    printer.on_step_end(None, TrainerState(), None)
    assert capsys.readouterr().out == "{'loss': '1.5'}\n"


class Tiny(nn.Module):
    """A model in the shape that the reference's Trainer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": nn.functional.mse_loss(self.linear(x), labels)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_in_the_references_own_trainer_they_do_their_work_in_its_thread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = import_module("transformers")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    out = io.StringIO()
    torch.manual_seed(0)
    data = [{"x": torch.randn(2), "labels": torch.ones(1)} for _ in range(16)]
    trainer = transformers.Trainer(
        model=Tiny(),
        args=transformers.TrainingArguments(
            str(tmp_path / "out"),
            max_steps=4,
            logging_steps=2,
            eval_strategy="steps",
            eval_steps=2,
            save_strategy="no",
            per_device_train_batch_size=4,
            use_cpu=True,
            disable_tqdm=True,
            report_to="none",
        ),
        train_dataset=data,
        eval_dataset=data[:4],
        callbacks=[
            TensorBoardCallback,
            PrinterCallback(),
            ProgressCallback(stream=out, every_s=1e-9),
        ],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    logged = [(row["step"], row["loss"]) for row in trainer.state.log_history if "loss" in row]
    board = scalars(tmp_path / "board", "train/loss")
    assert [step for step, _ in board] == [step for step, _ in logged] == [2, 4]
    assert [loss for _, loss in board] == pytest.approx([loss for _, loss in logged])
    assert len(scalars(tmp_path / "board", "eval/loss")) == 2
    printed = capsys.readouterr().out.splitlines()
    assert [f"'loss': '{loss:.4g}'" in line for _, loss in logged for line in printed].count(
        True
    ) == 2
    lines = out.getvalue().splitlines()
    assert lines[0] == "training from step 0 to 4"
    assert lines[-1].startswith("finished: 4 steps")
