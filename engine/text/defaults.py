"""The defaults of the text job, chosen by measurement on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextJobDefaults:
    """What ``stepbus demo`` and ``stepbus train`` use where nothing else is said."""

    batch_size: int = 12
    block_size: int = 96
    stride: int = 96
    num_layers: int = 4
    num_heads: int = 4
    width: int = 128
    dropout: float = 0.0
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    max_grad_norm: float = 1.0
    num_steps: int = 1000
    num_warmup_steps: int = 50
    logging_steps: int = 20
    eval_steps: int = 250
    save_steps: int = 250
    eval_batch_size: int = 48
    num_eval_characters: int = 46_080
    sample_length: int = 300
    sample_temperature: float = 0.8
    seed: int = 42
