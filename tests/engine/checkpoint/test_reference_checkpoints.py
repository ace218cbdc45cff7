"""Checkpoints that the reference's Trainer wrote: what of them is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stepbus import TrainerState
from stepbus.engine.checkpoint import list_checkpoints, load_model_files, read_checkpoint
from stepbus.schemas.errors import CheckpointError
from tests.engine.checkpoint.tiny_models import copy_of, gpt2, same_weights, transformers

STEP = 4


class Regression(nn.Module):
    """A plain module that the reference trains."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.linear(self.norm(x)).squeeze(-1) - labels).square().mean()}


def rows(model: nn.Module) -> list[dict[str, Any]]:
    torch.manual_seed(3)
    if isinstance(model, Regression):
        return [{"x": torch.randn(2), "labels": torch.randn(())} for _ in range(8)]
    words = torch.randint(0, 32, (8, 6))
    return [{"input_ids": line, "labels": line} for line in words]


def train(model: nn.Module, folder: Path, **settings: Any) -> Any:
    """Trains for four steps and returns the reference's Trainer."""
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=STEP,
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        logging_steps=1,
        per_device_train_batch_size=2,
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        metric_for_best_model="loss",
        **settings,
    )
    stopping = [transformers.EarlyStoppingCallback(9), transformers.EarlyStoppingCallback(8)]
    data = rows(model)
    trainer = transformers.Trainer(
        model, arguments, train_dataset=data, eval_dataset=data, callbacks=stopping
    )
    trainer.train()
    return trainer


def make(kind: str) -> nn.Module:
    model: nn.Module = gpt2(1) if kind == "gpt2" else Regression()
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["module", "gpt2"])
def test_weights_and_state_are_read_and_resuming_is_refused(tmp_path: Path, kind: str) -> None:
    trainer = train(make(kind), tmp_path)
    folder = tmp_path / f"checkpoint-{STEP}"
    assert (folder / "optimizer.pt").is_file()

    read = make(kind)
    before, generator = copy_of(read), torch.get_rng_state()
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    for word in (
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        f"from_pretrained('{folder}')",
        f"load_model_files('{folder}', model)",
        f"load_from_json('{folder}/trainer_state.json')",
    ):
        assert word in str(caught.value)
    assert same_weights(read, before)
    assert torch.equal(torch.get_rng_state(), generator)
    assert list_checkpoints(tmp_path) == []

    load_model_files(folder, read)
    assert same_weights(read, trainer.model)

    state = TrainerState.load_from_json(folder / "trainer_state.json")
    theirs = transformers.TrainerState.load_from_json(str(folder / "trainer_state.json"))
    assert vars(state) == vars(theirs)
    assert state.global_step == STEP
    assert isinstance(state.stateful_callbacks["EarlyStoppingCallback"], list)
    assert json.loads(state.to_json()) == json.loads((folder / "trainer_state.json").read_text())


@pytest.mark.slow
def test_one_with_the_model_alone_is_told_from_one_of_ours(tmp_path: Path) -> None:
    model = gpt2(0)
    train(model, tmp_path, save_only_model=True)
    folder = tmp_path / f"checkpoint-{STEP}"
    assert not (folder / "optimizer.pt").exists()
    with pytest.raises(CheckpointError, match="was written by Hugging Face's Trainer"):
        read_checkpoint(folder)
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    read = gpt2(1)
    load_model_files(folder, read)
    assert same_weights(read, model)


def test_a_state_before_the_first_step_is_read(tmp_path: Path) -> None:
    transformers.TrainerState().save_to_json(str(tmp_path / "trainer_state.json"))
    state = TrainerState.load_from_json(tmp_path / "trainer_state.json")
    assert state.global_step == 0
