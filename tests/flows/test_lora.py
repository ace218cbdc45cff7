"""LoRA on a causal language model: adapters alone are saved, resumed, chosen and read back."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.flows import small_runs
from tests.flows.small_runs import NUM_SPECIAL, NUM_TOKENS, history, saved_weights, weights

transformers: Any = import_module("transformers")
datasets: Any = import_module("datasets")
peft: Any = import_module("peft")

pytestmark = [
    pytest.mark.slow,
    # peft asks transformers by a former name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]

ADAPTER = "adapter_model.safetensors"


def make_base() -> Any:
    """A tiny GPT-2, always the same one."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=NUM_TOKENS + NUM_SPECIAL,
        n_positions=16,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def make_model() -> Any:
    """It with LoRA."""
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=4,
        lora_alpha=16,
        lora_dropout=0.2,
        target_modules=["c_attn"],
        fan_in_fan_out=True,
    )
    return peft.get_peft_model(make_base(), config)


def data(count: int, seed: int) -> Any:
    rows = small_runs.sentences(count, seed)
    return datasets.Dataset.from_dict({"input_ids": rows, "labels": rows})


def train(library: Library, folder: Path, **fields: Any) -> Any:
    """Trains the adapter; the evaluation counts as best where the loss is highest."""
    return small_runs.train(
        library,
        folder,
        make_model,
        given={"train_dataset": data(22, seed=1), "eval_dataset": data(8, seed=2)},
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,
        **fields,
    )


def test_lora_is_the_same_in_weights_history_checkpoints_and_files(tmp_path: Path) -> None:
    reference = train(REFERENCE, tmp_path / "reference")
    stepbus = train(STEPBUS, tmp_path / "stepbus")

    assert history(stepbus) == history(reference)
    assert weights(stepbus) == weights(reference)
    folders = [sorted((tmp_path / name).glob("checkpoint-*")) for name in ("reference", "stepbus")]
    assert [path.name for path in folders[1]] == [path.name for path in folders[0]]
    for theirs, ours in zip(*folders, strict=True):
        assert saved_weights(ours, ADAPTER) == saved_weights(theirs, ADAPTER), ours.name
        for file in ("adapter_config.json", "README.md"):
            assert (ours / file).read_bytes() == (theirs / file).read_bytes(), ours.name
        assert not (ours / "model.safetensors").exists()


def test_a_checkpoint_of_lora_holds_no_weights_of_the_base(tmp_path: Path) -> None:
    train(STEPBUS, tmp_path)

    size = sum(p.stat().st_size for p in (tmp_path / "checkpoint-2").glob("**/*") if p.is_file())
    saved = saved_weights(tmp_path / "checkpoint-2", ADAPTER)
    assert all("lora" in name for name in saved)
    base = sum(parameter.numel() * 4 for parameter in make_base().parameters())
    assert size - base < 100_000, "states and adapter only"


def test_resumed_lora_ends_with_the_best_adapter_of_the_unbroken_run(tmp_path: Path) -> None:
    unbroken = train(STEPBUS, tmp_path / "unbroken")
    train(STEPBUS, tmp_path / "resumed", stop_at=5)
    resumed = train(STEPBUS, tmp_path / "resumed", resume_from=True)

    assert resumed.state.global_step == unbroken.state.global_step == 12
    assert history(resumed) == history(unbroken)
    assert resumed.state.best_global_step == unbroken.state.best_global_step != 12
    assert weights(resumed) == weights(unbroken)
    for step in (6, 12):
        one, other = (
            saved_weights(tmp_path / name / f"checkpoint-{step}", ADAPTER)
            for name in ("resumed", "unbroken")
        )
        assert one == other


def test_a_saved_adapter_is_read_back_by_peft(tmp_path: Path) -> None:
    trainer = train(STEPBUS, tmp_path / "run")
    trainer.save_model(str(tmp_path / "adapter"))

    loaded = peft.PeftModel.from_pretrained(make_base(), tmp_path / "adapter").eval()
    best = peft.PeftModel.from_pretrained(
        make_base(), Path(trainer.state.best_model_checkpoint)
    ).eval()

    inputs = torch.tensor(small_runs.sentences(4, seed=3))
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.model(input_ids=inputs).logits
        assert torch.equal(loaded(input_ids=inputs).logits, expected)
        assert torch.equal(best(input_ids=inputs).logits, expected)
        assert not torch.equal(make_base().eval()(input_ids=inputs).logits, expected)
