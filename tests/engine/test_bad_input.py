"""Each mistake is one clear error, before the first step and before anything is written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from stepbus import (
    ArgumentError,
    CheckpointError,
    DataError,
    EarlyStoppingCallback,
    EventBus,
    StepbusError,
    TrainingRun,
    set_seed,
)

if TYPE_CHECKING:
    from tests.engine.conftest import Loop

FULL_DISK = Path(__file__).parent / "full_disk.py"


def refused(
    loop: Loop, error: type[StepbusError], message: str, *, entered: bool = False, **fields: Any
) -> None:
    before = files(loop)
    with pytest.raises(error, match=message):
        loop.train(**fields)
    assert loop.losses == []
    if not entered:
        assert files(loop) == before


def files(loop: Loop) -> dict[str, bytes]:
    found = loop.output_dir.rglob("*")
    return {str(path): path.read_bytes() for path in found if path.is_file()}


def test_evaluations_without_evaluate(loop: Loop) -> None:
    with pytest.raises(
        ArgumentError, match="eval_strategy is 'steps' and the run has no evaluate="
    ):
        TrainingRun(loop.arguments(eval_strategy="steps"), model=loop.model)
    assert not loop.output_dir.exists()


def test_an_output_folder_that_cannot_be_written(loop: Loop) -> None:
    loop.output_dir.write_text("a file")
    refused(loop, ArgumentError, "output_dir .* cannot be written")


def test_several_ranks(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(loop, ArgumentError, "WORLD_SIZE is 2")
    monkeypatch.setenv("WORLD_SIZE", "two")
    refused(loop, ArgumentError, "WORLD_SIZE is 'two'")
    assert not loop.output_dir.exists()


def test_data_that_is_empty_or_without_length(loop: Loop) -> None:
    class Endless:
        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            while True:
                yield {"x": torch.zeros(4, 8), "y": torch.zeros(4, 1)}

    dropped: Any = DataLoader(loop.samples[:3], 4, drop_last=True)  # type: ignore[arg-type]
    nothing: list[Any] = []
    for empty in (nothing, dropped):
        loop.loader = empty
        refused(loop, DataError, "gave no batch", entered=True)
    loop.loader = Endless()
    refused(loop, ArgumentError, "Endless has no length: set max_steps", entered=True)
    assert loop.train(max_steps=3).steps_done == 3


def test_data_that_can_be_gone_through_only_once(loop: Loop) -> None:
    batches = [{"x": torch.zeros(4, 8), "y": torch.zeros(4, 1)}] * 3
    loop.loader = iter(batches)
    with pytest.raises(DataError, match="gone through only once"):
        loop.train(max_steps=5)
    assert loop.steps_done == 3


def test_an_unknown_metric_for_the_best_model(loop: Loop) -> None:
    with pytest.raises(ArgumentError, match=r"'eval_f1', and evaluate\(\) returned eval_loss"):
        loop.train(eval_strategy="steps", eval_steps=2, metric_for_best_model="f1")
    assert loop.steps_done == 2


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "return a dict of metrics"),
        ({"loss": torch.zeros(2)}, "'loss' with more than one value"),
        ({"loss": "low"}, "is 'low': return a number"),
    ],
)
def test_metrics_that_are_none(loop: Loop, returned: Any, message: str) -> None:
    fields: dict[str, Any] = {"eval_strategy": "epoch", "metric_for_best_model": "loss"}
    with pytest.raises(ArgumentError, match=message):
        loop.train(evaluate=lambda: returned, **fields)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (3, "3 is no callback"),
        (print, "is no callback.*bus.subscribe"),
        (object(), "is no callback"),
        (type("Needs", (), {"__init__": lambda self, a: None}), "cannot be made without arguments"),
        (EarlyStoppingCallback, "needs metric_for_best_model"),
    ],
)
def test_a_callback_that_is_none_or_does_not_fit(loop: Loop, callback: Any, message: str) -> None:
    bus = EventBus()
    refused(loop, ArgumentError, message, bus=bus, callbacks=[callback])
    assert not bus.ledger.rows


def test_an_unknown_tracker(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEPBUS_REPORT_TO")
    refused(loop, ArgumentError, "no tracker 'tensorbord'.*tensorboard", report_to="tensorbord")


def test_attaching_twice_or_what_has_no_state(loop: Loop) -> None:
    refused(loop, ArgumentError, "has no state_dict", entered=True, attach={"it": object()})
    run = TrainingRun(loop.arguments(), model=loop.model)
    run.attach("scaler", loop.scheduler)
    with pytest.raises(ArgumentError, match="'scaler' is attached already"):
        run.attach("scaler", loop.scheduler)


def test_a_closed_bus(loop: Loop) -> None:
    bus = EventBus()
    bus.close()
    refused(loop, StepbusError, "closed", bus=bus)


@pytest.fixture
def checkpoint(new_loop: Callable[..., Loop]) -> str:
    loop = new_loop("saved").train(save_strategy="steps", save_steps=5)
    return f"{loop.output_dir}/checkpoint-5"


def test_a_checkpoint_of_another_model(loop: Loop, checkpoint: str) -> None:
    loop.model = nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.2), nn.Linear(4, 1))
    before = loop.weights()
    refused(loop, CheckpointError, "checkpoint of another model", resume_from_checkpoint=checkpoint)
    assert loop.weights() == before


def test_a_checkpoint_of_another_optimizer(loop: Loop, checkpoint: str) -> None:
    groups = [{"params": [p]} for p in loop.model.parameters()]
    loop.optimizer = torch.optim.AdamW(groups)
    loop.scheduler = torch.optim.lr_scheduler.LambdaLR(loop.optimizer, lambda step: 1.0)
    refused(
        loop,
        CheckpointError,
        "state of 'optimizer' .* does not fit",
        resume_from_checkpoint=checkpoint,
    )


def test_no_checkpoint_to_resume_from(loop: Loop) -> None:
    refused(loop, CheckpointError, "holds no whole checkpoint", resume_from_checkpoint=True)
    refused(loop, CheckpointError, "no checkpoint folder", resume_from_checkpoint="nowhere")


def test_a_damaged_checkpoint(loop: Loop, checkpoint: str) -> None:
    path = Path(checkpoint) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refused(
        loop, CheckpointError, "model.safetensors was altered", resume_from_checkpoint=checkpoint
    )
    path.unlink()
    refused(
        loop, CheckpointError, "model.safetensors is missing", resume_from_checkpoint=checkpoint
    )


def test_a_checkpoint_of_weights_alone(new_loop: Callable[..., Loop]) -> None:
    new_loop().train(save_strategy="epoch", save_only_model=True)
    refused(new_loop(), CheckpointError, "holds weights alone", resume_from_checkpoint=True)


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before_it_good(new_loop: Callable[..., Loop]) -> None:
    loop = new_loop()
    done = subprocess.run(
        [sys.executable, str(FULL_DISK), str(loop.output_dir)],
        capture_output=True,
        timeout=60,
        check=False,
        text=True,
    )
    assert done.returncode == 1, done.stderr + done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert "CheckpointError: checkpoint-4 was not written to" in last, done.stderr
    assert "File too large" in last
    assert "Earlier checkpoints are untouched" in last
    set_seed(0)
    model = nn.Linear(400, 400)
    with TrainingRun(
        loop.arguments(max_steps=3, resume_from_checkpoint=True),
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    ) as run:
        assert run.state.global_step == 2
    assert sorted(path.name for path in loop.output_dir.glob("*checkpoint-*")) == ["checkpoint-2"]
