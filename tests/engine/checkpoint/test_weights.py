from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model
from torch import nn

from stepbus.engine.checkpoint import load_weights, write_weights
from stepbus.schemas.errors import CheckpointError


class Tied(nn.Module):
    def __init__(self, tie: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        if tie:
            self.head.weight = self.embedding.weight


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written, read = Tied(), Tied()
    write_weights(path, written)
    assert list(load_file(path)) == ["embedding.weight"]
    load_weights(path, read)
    assert equal(weights_of(read), weights_of(written))
    assert read.head.weight is read.embedding.weight


def test_safetensors_own_loader_reads_the_file(tmp_path: Path) -> None:
    written, read = Tied(), Tied()
    write_weights(tmp_path / "model.safetensors", written)
    missing, unexpected = load_model(read, tmp_path / "model.safetensors")
    assert not missing
    assert not unexpected
    assert equal(weights_of(read), weights_of(written))


def test_weights_tied_there_load_into_a_model_that_is_not_tied(tmp_path: Path) -> None:
    written, read = Tied(), Tied(tie=False)
    write_weights(tmp_path / "model.safetensors", written)
    load_weights(tmp_path / "model.safetensors", read)
    assert equal(weights_of(read), weights_of(written))


def test_different_weights_do_not_load_into_a_model_that_ties_them(tmp_path: Path) -> None:
    write_weights(tmp_path / "model.safetensors", Tied(tie=False))
    with pytest.raises(CheckpointError, match=r"tied here but different there: embedding.weight"):
        load_weights(tmp_path / "model.safetensors", Tied())


def test_views_of_one_flat_buffer_and_odd_layouts_are_stored_whole(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(2, 3, 2), nn.BatchNorm1d(2))
    flat = torch.randn(20)
    model[0].weight = nn.Parameter(flat[:16].view(4, 4).t())
    model[0].bias = nn.Parameter(flat[16:])
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    expected = weights_of(model)
    write_weights(tmp_path / "model.safetensors", model)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    load_weights(tmp_path / "model.safetensors", model)
    assert equal(weights_of(model), expected)


def test_a_compiled_model_has_the_names_of_the_plain_one(tmp_path: Path) -> None:
    written, read = nn.Linear(2, 2), nn.Linear(2, 2)
    compiled: Any = torch.compile(written, backend="eager")
    write_weights(tmp_path / "model.safetensors", compiled)
    load_weights(tmp_path / "model.safetensors", read)
    assert equal(weights_of(read), weights_of(written))


def test_another_model_is_refused_by_name_and_left_unchanged(tmp_path: Path) -> None:
    write_weights(tmp_path / "model.safetensors", nn.ModuleDict({"a": nn.Linear(2, 3)}))
    other = nn.ModuleDict({"a": nn.Linear(4, 3), **{f"b{i}": nn.Linear(1, 1) for i in range(3)}})
    before = weights_of(other)
    with pytest.raises(CheckpointError) as caught:
        load_weights(tmp_path / "model.safetensors", other)
    message = str(caught.value)
    assert "checkpoint of another model" in message
    assert "missing in the checkpoint: b0.weight, b0.bias, b1.weight and 3 more" in message
    assert "of another shape: a.weight (3, 2) there, (3, 4) here" in message
    assert equal(weights_of(other), before)
    with pytest.raises(CheckpointError, match=r"unknown to this model: a.bias, a.weight"):
        load_weights(tmp_path / "model.safetensors", nn.ModuleDict())


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        load_weights(tmp_path / "model.safetensors", nn.Linear(1, 1))


class WithExtras(nn.Module):
    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}


def test_a_state_that_is_no_tensor_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"state_dict\(\)\['_extra_state'\] is a dict"):
        write_weights(tmp_path / "model.safetensors", WithExtras())
