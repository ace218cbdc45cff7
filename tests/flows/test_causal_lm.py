"""A script that trains a language model: killed, resumed, and the same as with transformers."""

from __future__ import annotations

import json
import random
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.flows.scripts_beside import Place, assert_same, last_line_of

transformers: Any = import_module("transformers")
tokenizers: Any = import_module("tokenizers")

pytestmark = pytest.mark.slow

SYLLABLES = [first + second for first in "ktmsln" for second in "aeiou"]
KILLED_AT = 19
"""In the middle of the second of three epochs, between two checkpoints."""


def text(lines: int, seed: int) -> str:
    """Lines in which each syllable tells much of the next."""
    source = random.Random(seed)
    written = []
    for _ in range(lines):
        at = source.randrange(len(SYLLABLES))
        words = ["the"]
        for _ in range(source.randint(4, 11)):
            words.append(SYLLABLES[at])
            at = (at * 7 + source.choice([1, 1, 1, 2])) % len(SYLLABLES)
        written.append(" ".join(words))
    return "\n".join(written) + "\n"


def prepare(folder: Path) -> None:
    """Texts, and a folder with the configuration of a tiny GPT-2 and its tokenizer."""
    (folder / "train.txt").write_text(text(160, seed=1))
    (folder / "valid.txt").write_text(text(40, seed=2))
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "the", *SYLLABLES])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", model_max_length=64
    ).save_pretrained(folder / "tiny")
    transformers.GPT2Config(
        vocab_size=len(vocabulary),
        n_positions=64,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    ).save_pretrained(folder / "tiny")


SETTINGS: dict[str, Any] = {
    "model_name_or_path": "tiny",
    "config_overrides": "n_embd=32",
    "train_file": "train.txt",
    "validation_file": "valid.txt",
    "block_size": 16,
    "output_dir": "out",
    "do_train": True,
    "do_eval": True,
    "per_device_train_batch_size": 4,
    "per_device_eval_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 3.0,
    "learning_rate": 0.01,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 3,
    "logging_steps": 3,
    "eval_strategy": "steps",
    "eval_steps": 8,
    "save_steps": 8,
    "save_total_limit": 2,
    "include_num_input_tokens_seen": True,
    "report_to": "none",
    "use_cpu": True,
    "log_level": "info",
}


def on_the_command_line() -> list[str]:
    """The settings as flags, those that are on without a value."""
    return [
        word
        for name, value in SETTINGS.items()
        for word in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]


def in_a_file(folder: Path) -> str:
    """The settings as a JSON file; its name."""
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    return "settings.json"


@pytest.fixture
def places(tmp_path: Path) -> tuple[Place, Place]:
    """The script as it is and as `migrate` changes it, with what it needs."""
    reference = Place(tmp_path / "reference", "causal_lm.py", migrated=False)
    stepbus = Place(tmp_path / "stepbus", "causal_lm.py", migrated=True)
    for place in (reference, stepbus):
        prepare(place.folder)
    return reference, stepbus


def test_a_killed_language_model_script_ends_as_the_unbroken_one_did_with_transformers(
    places: tuple[Place, Place],
) -> None:
    reference, stepbus = places
    stepbus.run_until_killed(KILLED_AT, *on_the_command_line())
    assert stepbus.checkpoints == ["checkpoint-16", "checkpoint-8"]
    assert not (stepbus.output / "model.safetensors").exists()

    resumed = stepbus.run(in_a_file(stepbus.folder))
    unbroken = reference.run(in_a_file(reference.folder))

    assert "Checkpoint detected, resuming training at out/checkpoint-16" in resumed
    assert_same(
        reference, stepbus, ["config.json", "generation_config.json", "tokenizer_config.json"]
    )
    assert last_line_of(resumed) == last_line_of(unbroken)
    assert stepbus.json("all_results.json")["perplexity"] < 10
