"""Subclasses of built-ins, in Hugging Face's shape, in whole runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stepbus import (
    EventBus,
    PrinterCallback,
    ProgressCallback,
    TensorBoardCallback,
    TrainerCallback,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.conftest import Loop


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    files = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    files.Reload()
    return [(event.step, event.value) for event in files.Scalars(tag)]


class Halves(TensorBoardCallback):
    """Edits what is logged, and stops the run when it has seen enough."""

    def __init__(self, folder: Path) -> None:
        super().__init__(logging_dir=folder)
        self.called_in: set[int] = set()
        self.handled_in: set[int] = set()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.called_in.add(threading.get_ident())
        assert {"model", "optimizer", "lr_scheduler"} <= kwargs.keys()
        if "loss" not in logs:
            return
        logs["halved"] = logs.pop("loss") / 2
        super().on_log(args, state, control, logs=logs, **kwargs)
        if state.global_step == 8:
            control.should_training_stop = True

    def on_train_end(self, event: Any) -> None:  # type: ignore[override]
        self.handled_in.add(threading.get_ident())
        super().on_train_end(event)


@pytest.mark.parametrize("owned", [False, True])
def test_edited_logs_are_written_and_votes_of_the_override_act(
    loop: Loop, tmp_path: Path, owned: bool
) -> None:
    board = Halves(tmp_path / "board")
    bus = None if owned else EventBus()
    loop.train(callbacks=[board], bus=bus, logging_strategy="steps", logging_steps=2)
    assert loop.steps_done == 8
    rows = [row for row in loop.run.state.log_history if "loss" in row]
    written = scalars(tmp_path / "board", "train/halved")
    assert [step for step, _ in written] == [row["step"] for row in rows] == [2, 4, 6, 8]
    assert [value for _, value in written] == pytest.approx([row["loss"] / 2 for row in rows])
    logs = [event.logs for event in loop.recorder.of("log")]
    assert all("halved" not in values for values in logs), "others see what was logged"
    assert board.called_in == {threading.get_ident()}
    assert threading.get_ident() not in board.handled_in
    (verdict,) = loop.verdicts()
    assert (verdict.action, verdict.votes[0].voter, verdict.acted_at) == ("stop", "Halves", 8)


def test_they_stand_in_the_chain_where_they_were_given(
    loop: Loop, capsys: pytest.CaptureFixture[str]
) -> None:
    class Marks(TrainerCallback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            kwargs["logs"].clear()
            kwargs["logs"][self.name] = state.global_step

    class Printer(PrinterCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_log(args, state, control, **kwargs)

    loop.train(
        callbacks=[Marks("before"), Printer, Marks("after")],
        logging_strategy="steps",
        logging_steps=6,
        max_steps=6,
    )
    assert capsys.readouterr().out == "{'before': 6}\n{'before': 6}\n"


def test_they_change_no_weights(new_loop: Callable[..., Loop]) -> None:
    class Progress(ProgressCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_step_end(args, state, control, **kwargs)

        def on_log(self, *args: Any, **kwargs: Any) -> None:
            super().on_log(*args, **kwargs)

    plain = new_loop("plain").train(max_steps=6)
    watched = new_loop("watched").train(
        callbacks=[Progress(display="off")], max_steps=6, logging_strategy="steps", logging_steps=1
    )
    assert watched.weights() == plain.weights()
