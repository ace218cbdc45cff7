from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stepbus.engine.checkpoint import load_model_files, save_model_files
from stepbus.schemas.errors import CheckpointError
from tests.engine.checkpoint.tiny_models import copy_of, gpt2, lora, lora_config, same_weights

ADAPTER = "adapter_model.safetensors"
peft: Any = import_module("peft")


@pytest.fixture(autouse=True)
def without_warnings_of_peft() -> Iterator[None]:
    """peft asks models of transformers for a property that these have deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_an_adapter_comes_back_into_the_live_model(tmp_path: Path) -> None:
    written, read = lora(0), lora(1)
    read.train()
    trained = [name for name, p in read.named_parameters() if p.requires_grad]
    save_model_files(written, tmp_path)
    assert files_in(tmp_path) == {ADAPTER, "adapter_config.json", "README.md"}
    assert not same_weights(read, written)
    load_model_files(tmp_path, read)
    assert same_weights(read, written)
    assert read.training
    assert [name for name, p in read.named_parameters() if p.requires_grad] == trained


def test_its_own_library_reads_the_folder(tmp_path: Path) -> None:
    written = lora(0)
    save_model_files(torch.compile(written, backend="eager"), tmp_path)  # type: ignore[arg-type]
    assert same_weights(peft.PeftModel.from_pretrained(gpt2(), tmp_path), written)


@pytest.mark.parametrize("adapters", [("default", "second"), ("one", "two"), ("only",)])
def test_several_adapters_lie_in_folders_of_their_names(
    tmp_path: Path, adapters: tuple[str, ...]
) -> None:
    written, read = lora(0, adapters), lora(1, adapters)
    save_model_files(written, tmp_path)
    assert {name for name in files_in(tmp_path) if name.endswith(ADAPTER)} == {
        ADAPTER if name == "default" else f"{name}/{ADAPTER}" for name in adapters
    }
    load_model_files(tmp_path, read)
    assert same_weights(read, written)


def test_embeddings_that_are_adapted_are_saved_whole_and_come_back(tmp_path: Path) -> None:
    written = lora(0, target_modules=["lm_head"], fan_in_fan_out=False)
    read = lora(1, target_modules=["lm_head"], fan_in_fan_out=False)
    with pytest.warns(UserWarning, match="save_embedding_layers"):
        save_model_files(written, tmp_path)
    assert any("base_layer" in name for name in load_file(tmp_path / ADAPTER))
    load_model_files(tmp_path, read)
    assert same_weights(read, written)


def prompts(seed: int, config: Any) -> Any:
    torch.manual_seed(seed)
    model = peft.get_peft_model(gpt2(), config)
    torch.nn.init.normal_(model.prompt_encoder["default"].embedding.weight)
    return model


@pytest.mark.parametrize("kind", ["PromptTuningConfig", "PrefixTuningConfig"])
def test_prompts_that_are_trained_come_back(tmp_path: Path, kind: str) -> None:
    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=3)
    written, read = prompts(0, config), prompts(1, config)
    save_model_files(written, tmp_path)
    load_model_files(tmp_path, read)
    assert same_weights(read, written)


def test_prompts_that_an_encoder_computes_do_not_go_back_by_mistake(tmp_path: Path) -> None:
    config = peft.PromptEncoderConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=3, encoder_hidden_size=4
    )
    save_model_files(prompts(0, config), tmp_path)
    model = prompts(1, config)
    before = copy_of(model)
    with pytest.raises(CheckpointError, match="prompts that the live model computes"):
        load_model_files(tmp_path, model)
    assert same_weights(model, before)


def test_an_adapter_inside_a_model_of_transformers_comes_back(tmp_path: Path) -> None:
    def model(seed: int) -> Any:
        torch.manual_seed(seed)
        base = gpt2()
        base.add_adapter(lora_config(), adapter_name="mine")
        for name, parameter in base.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter)
        return base

    written, read = model(1), model(2)
    save_model_files(written, tmp_path)
    assert all(name.startswith("base_model.model.") for name in load_file(tmp_path / ADAPTER))
    load_model_files(tmp_path, read)
    assert same_weights(read, written)


def test_what_does_not_fit_is_named_and_the_model_is_unchanged(tmp_path: Path) -> None:
    save_model_files(lora(0, r=3), tmp_path / "rank")
    model = lora(1)
    before = copy_of(model)
    with pytest.raises(CheckpointError) as caught:
        load_model_files(tmp_path / "rank", model)
    assert "The adapter 'default'" in str(caught.value)
    assert "c_attn.lora_A.weight (3, 16) there, (2, 16) here" in str(caught.value)

    save_model_files(lora(0), tmp_path / "cut")
    tensors = load_file(tmp_path / "cut" / ADAPTER)
    name = next(name for name in tensors if "lora_B" in name)
    tensors["stranger"] = tensors.pop(name)
    save_file(tensors, tmp_path / "cut" / ADAPTER)
    with pytest.raises(CheckpointError, match=rf"missing in the checkpoint: {name}; unknown .*str"):
        load_model_files(tmp_path / "cut", model)
    assert same_weights(model, before)


def test_adapters_of_another_run_are_refused_by_their_names(tmp_path: Path) -> None:
    save_model_files(lora(0, ("default", "second")), tmp_path)
    with pytest.raises(CheckpointError, match=r"holds the adapters .*second.* model has default"):
        load_model_files(tmp_path, lora(1))
    save_model_files(lora(0, ("other",)), tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"holds the adapters other, and .* has default"):
        load_model_files(tmp_path / "other", lora(1))


def test_a_model_without_adapters_does_not_take_some(tmp_path: Path) -> None:
    save_model_files(lora(0), tmp_path)
    with pytest.raises(CheckpointError, match="holds PEFT adapters, and the model has none"):
        load_model_files(tmp_path, gpt2())
