"""transformers' own Trainer on a tiny GPT-2, with a callback of theirs that records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, TrainingArguments


def samples(count: int, seed: int = 0) -> Any:
    """Random text of 8 tokens each, the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randint(0, 32, (8,), generator=generator) for _ in range(count)]
    return [{"input_ids": ids, "labels": ids} for ids in found]


def tiny_gpt2() -> GPT2LMHeadModel:
    """A causal language model of 4 thousand parameters; the same at each call."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    config.bos_token_id = config.eos_token_id = 0
    config.loss_type = "ForCausalLM"
    return GPT2LMHeadModel(config)


def arguments(folder: Path, **changes: Any) -> TrainingArguments:
    """Six steps, on the CPU, with nothing due by itself but a log a step."""
    given: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
    }
    return TrainingArguments(**(given | changes))


def make_trainer(folder: Path, *callbacks: Any, **changes: Any) -> transformers.Trainer:
    """Their Trainer with 12 samples to train on and 8 to evaluate."""
    trainer = transformers.Trainer(
        model=tiny_gpt2(),
        args=arguments(folder, **changes),
        train_dataset=samples(12),
        eval_dataset=samples(8, seed=1),
        callbacks=list(callbacks),
    )
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    return trainer


class Recording(transformers.TrainerCallback):
    """Sees every hook, as their callbacks do."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)

        def hook(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.seen.append((name.removeprefix("on_"), state.global_step))

        return hook
