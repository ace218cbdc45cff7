"""Masked language modelling: random masks and dropout, resumed in mid-epoch to the last bit."""

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
tokenizers: Any = import_module("tokenizers")

pytestmark = pytest.mark.slow

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_model() -> Any:
    """A tiny BERT with the usual dropout, always the same one."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=NUM_TOKENS + NUM_SPECIAL,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    return transformers.BertForMaskedLM(config)


def make_collator() -> Any:
    """transformers' own, which masks by torch's global generator."""
    words = SPECIAL + [f"w{n}" for n in range(NUM_TOKENS)]
    model = tokenizers.models.WordLevel(
        {word: n for n, word in enumerate(words)}, unk_token="[UNK]"
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(model),
        **{f"{word[1:-1].lower()}_token": word for word in SPECIAL},
    )
    return transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.3)


def data(count: int, seed: int) -> Any:
    rows = small_runs.sentences(count, seed)
    masks = [[0] * len(row) for row in rows]
    return datasets.Dataset.from_dict(
        {"input_ids": rows, "special_tokens_mask": masks, "source": ["made"] * count}
    )


def train(library: Library, folder: Path, **fields: Any) -> Any:
    given = {
        "data_collator": make_collator(),
        "train_dataset": data(38, seed=1),
        "eval_dataset": data(8, seed=2),
    }
    return small_runs.train(
        library,
        folder,
        make_model,
        given=given,
        eval_strategy="epoch",
        gradient_accumulation_steps=2,
        **fields,
    )


def test_masked_lm_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    reference = train(REFERENCE, tmp_path / "reference")
    stepbus = train(STEPBUS, tmp_path / "stepbus")

    assert history(stepbus) == history(reference)
    assert weights(stepbus) == weights(reference)
    for folder in (tmp_path / "reference").glob("checkpoint-*"):
        one, other = (
            saved_weights(tmp_path / name / folder.name, "model.safetensors")
            for name in ("reference", "stepbus")
        )
        assert one == other, folder.name


@pytest.mark.parametrize("stop_at", [3, 5, 7])
def test_masked_lm_that_is_resumed_in_mid_epoch_ends_as_the_unbroken_one(
    tmp_path: Path, stop_at: int
) -> None:
    unbroken = train(STEPBUS, tmp_path / "unbroken")
    train(STEPBUS, tmp_path / "resumed", stop_at=stop_at)
    resumed = train(STEPBUS, tmp_path / "resumed", resume_from=True)

    assert resumed.state.global_step == unbroken.state.global_step == 10
    assert history(resumed) == history(unbroken)
    assert weights(resumed) == weights(unbroken)
    losses = [run.state.log_history[-1]["train_loss"] for run in (resumed, unbroken)]
    assert losses[0] == losses[1]


def test_masked_lm_is_the_same_and_resumes_with_masks_made_in_workers(tmp_path: Path) -> None:
    reference = train(REFERENCE, tmp_path / "reference", dataloader_num_workers=2)
    unbroken = train(STEPBUS, tmp_path / "unbroken", dataloader_num_workers=2)
    train(STEPBUS, tmp_path / "resumed", dataloader_num_workers=2, stop_at=7)
    resumed = train(STEPBUS, tmp_path / "resumed", dataloader_num_workers=2, resume_from=True)

    assert weights(unbroken) == weights(reference)
    assert weights(resumed) == weights(unbroken)
