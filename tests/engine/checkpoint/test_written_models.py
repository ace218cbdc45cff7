"""Checkpoints that hold a model as its own library saves it: everybody reads them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stepbus.engine.checkpoint import (
    load_model_state,
    model_state,
    read_checkpoint,
    rotate,
    save_model_files,
    write_checkpoint,
)
from stepbus.schemas.errors import ArgumentError, CheckpointError
from tests.engine.checkpoint.tiny_models import gpt2, lora, same_weights, tokenizer, transformers


@pytest.fixture(autouse=True)
def without_warnings_of_peft() -> Iterator[None]:
    """peft asks models of transformers for a property that these have deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def write(folder: Path, step: int, model: nn.Module, words: Any = None) -> Path:
    return write_checkpoint(
        folder,
        step,
        states={"model": model_state(model)},
        write_model=lambda aside: save_model_files(model, aside, processing_class=words),
        documents={"trainer_state.json": "{}"},
    )


def test_from_pretrained_reads_a_checkpoint_with_its_tokenizer(tmp_path: Path) -> None:
    model = gpt2(0)
    folder = write(tmp_path, 1, model, tokenizer())
    stored = load_file(folder / "model.safetensors")
    assert model.state_dict().keys() - stored.keys() == {"lm_head.weight"}
    read = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert same_weights(read, model)
    assert read.lm_head.weight is read.transformer.wte.weight
    words = transformers.AutoTokenizer.from_pretrained(folder)
    assert words("step bus", return_tensors="pt")["input_ids"].tolist() == [[2, 3]]
    assert read_checkpoint(folder).documents == ("trainer_state.json",)


def test_peft_reads_a_checkpoint_and_the_base_weights_are_not_in_it(tmp_path: Path) -> None:
    peft: Any = import_module("peft")
    model = lora(0, ("default", "second"))
    folder = write(tmp_path, 1, model)
    read = peft.PeftModel.from_pretrained(gpt2(), folder)
    read.load_adapter(folder / "second", "second")
    assert same_weights(read, model)
    checkpoint = read_checkpoint(folder)
    assert "second/adapter_model.safetensors" in checkpoint.manifest.files
    assert not any("base_layer" in name for name in checkpoint.states["model"])
    assert not (folder / "model.safetensors").exists()


@pytest.mark.parametrize("make", [gpt2, lora])
def test_both_copies_of_the_weights_bring_the_live_model_back(
    tmp_path: Path, make: Callable[[int], nn.Module]
) -> None:
    written = make(0)
    checkpoint = read_checkpoint(write(tmp_path, 1, written))
    assert checkpoint.has_weights
    from_files, from_state = make(1), make(2)
    checkpoint.load_weights(from_files)
    load_model_state(from_state, checkpoint.states["model"], checkpoint.folder)
    assert same_weights(from_files, written)
    assert same_weights(from_state, written)


def test_a_run_that_trains_an_adapter_goes_on_to_the_last_bit(tmp_path: Path) -> None:
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        for index in range(count):
            words = torch.arange(6).roll(index).view(1, 6)
            model(input_ids=words, labels=words).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def start(seed: int) -> tuple[Any, torch.optim.Optimizer]:
        model = lora(seed).eval()
        trained = [p for p in model.parameters() if p.requires_grad]
        return model, torch.optim.AdamW(trained, lr=0.1)

    unbroken, optimizer = start(0)
    steps(unbroken, optimizer, 3)
    states = {"model": model_state(unbroken), "optimizer": optimizer.state_dict()}
    checkpoint = read_checkpoint(write_checkpoint(tmp_path, 3, states=states))
    steps(unbroken, optimizer, 3)

    resumed, again = start(1)
    load_model_state(resumed, checkpoint.states["model"])
    again.load_state_dict(checkpoint.states["optimizer"])
    steps(resumed, again, 3)
    assert same_weights(resumed, unbroken)


def test_files_of_another_kind_are_no_weights(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path, 1, states={}, write_model=lambda aside: (aside / "mine.pt").touch()
    )
    checkpoint = read_checkpoint(folder)
    assert not checkpoint.has_weights
    with pytest.raises(CheckpointError, match="in files that stepbus does not read"):
        checkpoint.load_weights(nn.Linear(1, 1))


def test_rotation_deletes_all_that_a_model_wrote(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write(tmp_path, step, lora(0, ("default", "second")))
    best = tmp_path / "checkpoint-1"
    done = rotate(tmp_path, 1, protected=[best], leased=lambda folder: False)
    assert [folder.name for folder in done.deleted] == ["checkpoint-2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "checkpoint-3"]
    assert read_checkpoint(best).has_weights


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_files(folder: Path) -> None:
    (folder / "model-00001-of-00001.safetensors").write_bytes(b"\xff\x00" * 10)
    (folder / "config.json").write_text("{}")
    (folder / "second" / "deep").mkdir(parents=True)
    (folder / "second" / "deep" / "words.bin").write_bytes(b"\x80")


def test_all_that_the_model_writes_is_in_the_checkpoint_and_on_record(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path,
        1,
        states={"a": 1},
        write_model=write_files,
        documents={"trainer_state.json": "{}"},
    )
    checkpoint = read_checkpoint(folder)
    entry = checkpoint.manifest.files["second/deep/words.bin"]
    assert (entry.size, len(entry.sha256)) == (1, 64)
    assert {name for name in checkpoint.manifest.files if not name.startswith("state")} == {
        "model-00001-of-00001.safetensors",
        "config.json",
        "second/deep/words.bin",
        "trainer_state.json",
    }
    assert checkpoint.documents == ("trainer_state.json",)
    (folder / "second" / "deep" / "words.bin").write_bytes(b"\x81")
    with pytest.raises(CheckpointError, match=r"second/deep/words\.bin was altered"):
        read_checkpoint(folder)


def test_a_document_replaces_a_file_of_the_same_name(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path, 1, states={}, write_model=write_files, documents={"config.json": "[]"}
    )
    assert read_checkpoint(folder).document("config.json") == "[]"


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "state/0.distcp"])
def test_a_model_that_takes_a_name_of_stepbus_is_refused(tmp_path: Path, name: str) -> None:
    def write_model(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")

    taken = Path(name).parts[0]
    with pytest.raises(CheckpointError, match=rf"wrote {taken} into the checkpoint"):
        write_checkpoint(tmp_path, 1, states={}, write_model=write_model)
    assert names_in(tmp_path) == []


def test_a_model_that_cannot_be_saved_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write_files(folder)
        raise TypeError("save_pretrained() got an unexpected keyword")

    def lose(folder: Path) -> None:
        (folder / "words.txt").read_text()

    def remove(folder: Path) -> None:
        folder.rmdir()

    write_checkpoint(tmp_path, 1, states={})
    for write_model, words in (
        (fail, r"saving the model failed with TypeError: save_pretrained\(\) got"),
        (lose, r"saving the model failed with FileNotFoundError: .*words\.txt"),
        (remove, r"saving the model removed the folder"),
    ):
        with pytest.raises(CheckpointError, match=words):
            write_checkpoint(tmp_path, 2, states={}, write_model=write_model)
    assert names_in(tmp_path) == ["checkpoint-1"]


def test_two_ways_to_write_one_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="Give model or write_model, not both"):
        write_checkpoint(
            tmp_path, 1, states={}, model=nn.Linear(1, 1), write_model=lambda folder: None
        )
