from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from stepbus.engine.checkpoint import load_model_files, save_model_files
from stepbus.schemas.errors import CheckpointError
from tests.engine.checkpoint.tiny_models import (
    copy_of,
    gpt2,
    mixtral,
    same_weights,
    tokenizer,
    transformers,
)

SAFE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def plain(size: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(size, size), nn.BatchNorm1d(size))


def test_a_plain_module_comes_back_bit_for_bit(tmp_path: Path) -> None:
    written, read = plain(), plain()
    save_model_files(written, tmp_path / "new" / "folder")
    load_model_files(tmp_path / "new" / "folder", read)
    assert same_weights(read, written)
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == [SAFE]


def test_a_plain_module_is_the_file_that_the_reference_writes(tmp_path: Path) -> None:
    module = plain()
    save_model_files(module, tmp_path)
    assert same_weights(load_file(tmp_path / SAFE), module)


def test_a_model_of_transformers_is_saved_by_itself_with_tied_weights_once(tmp_path: Path) -> None:
    written, read = gpt2(0), gpt2(1)
    save_model_files(written, tmp_path)
    stored = load_file(tmp_path / SAFE)
    assert written.state_dict().keys() - stored.keys() == {"lm_head.weight"}
    assert (tmp_path / "config.json").is_file()
    load_model_files(tmp_path, read)
    assert same_weights(read, written)
    assert read.lm_head.weight is read.transformer.wte.weight
    assert same_weights(transformers.GPT2LMHeadModel.from_pretrained(tmp_path), written)


def test_torch_compile_is_looked_through_both_ways(tmp_path: Path) -> None:
    written, read = gpt2(0), gpt2(1)
    compiled: Any = torch.compile(written, backend="eager")
    save_model_files(compiled, tmp_path, state_dict=compiled.state_dict())
    assert not any("_orig_mod" in name for name in load_file(tmp_path / SAFE))
    load_model_files(tmp_path, torch.compile(read, backend="eager"))  # type: ignore[arg-type]
    assert same_weights(read, written)


def test_a_state_dict_that_is_given_is_what_is_saved(tmp_path: Path) -> None:
    for name, model in (("plain", plain()), ("gpt2", gpt2())):
        half = {name: tensor / 2 for name, tensor in model.state_dict().items()}
        before = copy_of(model)
        save_model_files(model, tmp_path / name, state_dict=half)
        load_model_files(tmp_path / name, model)
        expected = {key: tensor.to(before[key].dtype) for key, tensor in half.items()}
        assert same_weights(model, expected)


def test_shards_are_put_together(tmp_path: Path) -> None:
    written, read = gpt2(0), gpt2(1)
    written.save_pretrained(tmp_path, max_shard_size="5KB")
    assert not (tmp_path / SAFE).exists()
    load_model_files(tmp_path, read)
    assert same_weights(read, written)


def test_a_shard_that_lies_or_is_missing_is_refused_and_the_model_unchanged(tmp_path: Path) -> None:
    model = gpt2(1)
    before = copy_of(model)
    gpt2(0).save_pretrained(tmp_path, max_shard_size="5KB")
    index = json.loads((tmp_path / INDEX).read_text())
    first = index["weight_map"]["transformer.wte.weight"]
    save_file({"other": torch.zeros(1)}, tmp_path / first)
    with pytest.raises(CheckpointError, match=rf"is damaged: {first} has no transformer\."):
        load_model_files(tmp_path, model)
    (tmp_path / first).unlink()
    with pytest.raises(CheckpointError, match=rf"{first} cannot be read as safetensors"):
        load_model_files(tmp_path, model)
    index["weight_map"]["transformer.wte.weight"] = f"../{first}"
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"not an index of shards: a shard is outside"):
        load_model_files(tmp_path, model)
    (tmp_path / INDEX).write_text("[]")
    with pytest.raises(CheckpointError, match=r"not an index of shards"):
        load_model_files(tmp_path, model)
    assert same_weights(model, before)


def test_names_that_the_library_changes_on_the_way_to_disk_come_back(tmp_path: Path) -> None:
    written, read = mixtral(0), mixtral(1)
    save_model_files(written, tmp_path)
    assert not load_file(tmp_path / SAFE).keys() >= written.state_dict().keys()
    generator = torch.get_rng_state()
    load_model_files(tmp_path, read)
    assert torch.equal(torch.get_rng_state(), generator)
    assert same_weights(read, written)


class Positions(nn.Module):
    """A model that leaves out of its files what it computes anew, as Marian does."""

    _keys_to_ignore_on_save = ("positions",)

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)
        self.register_buffer("positions", torch.full((3,), offset))


def test_what_a_model_leaves_out_on_purpose_keeps_its_values(tmp_path: Path) -> None:
    written, read = Positions(1.0), Positions(2.0)
    save_file(dict(written.linear.state_dict(prefix="linear.")), tmp_path / SAFE)
    load_model_files(tmp_path, read)
    assert same_weights(read.linear, written.linear)
    assert torch.equal(read.get_buffer("positions"), torch.full((3,), 2.0))


def test_another_model_is_refused_by_name_and_unchanged(tmp_path: Path) -> None:
    save_model_files(gpt2(n_embd=8), tmp_path)
    model = gpt2(1)
    before = copy_of(model)
    with pytest.raises(CheckpointError) as caught:
        load_model_files(tmp_path, model)
    assert "checkpoint of another model" in str(caught.value)
    assert "transformer.wte.weight (32, 8) there, (32, 16) here" in str(caught.value)
    with pytest.raises(CheckpointError, match=r"missing in the checkpoint: 0\.weight"):
        load_model_files(tmp_path, plain())
    assert same_weights(model, before)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin"]
)
def test_a_pickle_is_refused_by_its_name_and_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    (tmp_path / name).chmod(0)
    with pytest.raises(CheckpointError, match=rf"{name} is a pickle.*from_pretrained.*save_pretr"):
        load_model_files(tmp_path, plain())


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no weights: neither model\.safetensors"):
        load_model_files(tmp_path, plain())
    with pytest.raises(CheckpointError, match=r"There is no folder '.*nowhere'"):
        load_model_files(tmp_path / "nowhere", plain())


def test_the_tokenizer_goes_with_the_model(tmp_path: Path) -> None:
    words = tokenizer()
    collator = transformers.DataCollatorWithPadding(words)
    save_model_files(plain(), tmp_path / "a", processing_class=words)
    save_model_files(gpt2(), tmp_path / "b", data_collator=collator)
    for name in ("a", "b"):
        read = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
        assert read("bus step what")["input_ids"] == [3, 2, 0]
    with pytest.raises(
        CheckpointError, match=r"processing_class is a object.*no\s+save_pretrained"
    ):
        save_model_files(plain(), tmp_path / "c", processing_class=object())


def test_no_pickle_is_written(tmp_path: Path) -> None:
    save_model_files(gpt2(), tmp_path, processing_class=tokenizer())
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
