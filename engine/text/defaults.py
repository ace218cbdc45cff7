"""The defaults of the text job, chosen by measurement on two CPU cores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TextJobDefaults:
    """What the text job uses where nothing else is said: about 70 s of training on two CPU cores.

    The optimizer is a plain fused AdamW with torch's own betas; the schedule a linear warm-up, then
    a cosine to zero.
    """

    batch_size: int = 12
    block_size: int = 96
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    num_steps: int = 1200
    num_warmup_steps: int = 50
    logging_steps: int = 20
    eval_steps: int = 300
    save_steps: int = 300
    eval_batch_size: int = 48
    num_eval_blocks: int = 500
    """At most so many held-out blocks are scored; those of the help text are 484."""
    sample_length: int = 300
    sample_temperature: float = 0.8
    seed: int = 42
