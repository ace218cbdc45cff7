from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stepbus.engine.checkpoint import (
    load_model_state,
    model_state,
    read_checkpoint,
    write_checkpoint,
)
from stepbus.schemas.errors import CheckpointError
from tests.engine.checkpoint.tiny_models import copy_of, gpt2, lora, same_weights


@pytest.fixture(autouse=True)
def without_warnings_of_peft() -> Iterator[None]:
    """peft asks models of transformers for a property that these have deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def through_a_checkpoint(model: nn.Module, folder: Path) -> dict[str, Any]:
    states = {"model": model_state(model)}
    state: dict[str, Any] = read_checkpoint(write_checkpoint(folder, 1, states=states)).states[
        "model"
    ]
    return state


def test_most_models_are_stored_whole_with_their_buffers(tmp_path: Path) -> None:
    written = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    read = copy.deepcopy(written)
    written(torch.randn(4, 2))
    state = through_a_checkpoint(written, tmp_path)
    assert state.keys() == written.state_dict().keys()
    load_model_state(read, state)
    assert same_weights(read, written)


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    written, read = gpt2(0), gpt2(1)
    load_model_state(read, through_a_checkpoint(written, tmp_path))
    assert same_weights(read, written)
    assert read.lm_head.weight is read.transformer.wte.weight


def test_the_names_are_the_same_with_torch_compile_and_without(tmp_path: Path) -> None:
    written, read = gpt2(0), gpt2(1)
    compiled: Any = torch.compile(written, backend="eager")
    assert model_state(compiled).keys() == model_state(written).keys()
    load_model_state(torch.compile(read, backend="eager"), model_state(compiled))  # type: ignore[arg-type]
    assert same_weights(read, written)


def test_of_a_peft_model_only_what_its_training_needs_is_stored(tmp_path: Path) -> None:
    written, read = lora(0, ("default", "frozen")), lora(1, ("default", "frozen"))
    state = through_a_checkpoint(written, tmp_path)
    whole = written.state_dict()
    adapters = {name for name in whole if ".default" in name or ".frozen" in name}
    assert adapters
    assert state.keys() == adapters
    assert sum(t.numel() for t in state.values()) < sum(t.numel() for t in whole.values()) / 5
    load_model_state(read, state)
    assert same_weights(read, written)


def test_base_weights_that_are_trained_and_buffers_are_stored_too(tmp_path: Path) -> None:
    written, read = lora(0), lora(1)
    for model in (written, read):
        base = model.base_model.model.transformer.h[0].ln_1
        base.weight.requires_grad_(True)
        base.register_buffer("calls", torch.zeros(1))
    nn.init.normal_(written.base_model.model.transformer.h[0].ln_1.weight)
    written.base_model.model.transformer.h[0].ln_1.calls += 5
    state = through_a_checkpoint(written, tmp_path)
    assert {name.rsplit(".", 1)[1] for name in state if ".ln_1." in name} == {"weight", "calls"}
    load_model_state(read, state)
    assert same_weights(read, written)


def test_what_is_trained_may_differ_from_the_run_that_was_saved(tmp_path: Path) -> None:
    written, read = lora(0), lora(1)
    written.base_model.model.transformer.wpe.weight.requires_grad_(True)
    load_model_state(read, through_a_checkpoint(written, tmp_path))
    assert same_weights(read, written)


def test_prompts_are_stored_and_the_model_under_them_is_not(tmp_path: Path) -> None:
    peft: Any = import_module("peft")

    def model(seed: int) -> Any:
        torch.manual_seed(seed)
        encoded = peft.PromptEncoderConfig(
            task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=4
        )
        return peft.get_peft_model(gpt2(), encoded)

    written, read = model(0), model(1)
    state = through_a_checkpoint(written, tmp_path)
    assert {name.split(".")[0] for name in state} == {"prompt_encoder"}
    load_model_state(read, state)
    assert same_weights(read, written)


def test_another_model_is_refused_by_name_and_unchanged() -> None:
    model = lora(1)
    before = copy_of(model)
    with pytest.raises(CheckpointError) as caught:
        load_model_state(model, model_state(lora(0, r=3)), "checkpoint-5")
    assert "checkpoint-5 is a checkpoint of another model: of another shape" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"^The state is .*missing in the checkpoint"):
        load_model_state(model, model_state(gpt2()))
    with pytest.raises(CheckpointError, match=r"unknown to this model: .*second"):
        load_model_state(model, model_state(lora(0, ("default", "second"))))
    assert same_weights(model, before)


class Counting(nn.Module):
    """A module with a state of its own beside its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.calls = state["calls"]


def test_states_that_are_no_tensors_come_back_and_are_missed(tmp_path: Path) -> None:
    written, read = Counting(), Counting()
    written.calls = 3
    load_model_state(read, through_a_checkpoint(written, tmp_path))
    assert read.calls == 3
    with pytest.raises(CheckpointError, match="only here or only there: _extra_state"):
        load_model_state(read, {})
