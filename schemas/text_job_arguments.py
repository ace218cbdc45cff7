"""The arguments of the text job: those of any run, and the shape of its model and data."""

from dataclasses import KW_ONLY
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, FiniteFloat
from pydantic.dataclasses import dataclass

from .argument_choices import Interval, Schedule
from .argument_kinds import NUMBER, Count, MaxSteps, NonNegative, Size, Steps
from .arguments import TrainingArguments
from .strategies import IntervalStrategy, SchedulerType


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Files = Annotated[list[str], BeforeValidator(_as_list)]

Dropout = Annotated[FiniteFloat, Field(ge=0, lt=1), NUMBER]


@dataclass(config=ConfigDict(use_attribute_docstrings=True, extra="forbid"))
class TextJobArguments(TrainingArguments):
    """What a run that trains a small character-level GPT on text obeys.

    The defaults were chosen by measurement: 80 to 90 s of training on two CPU cores.

    Raises:
        ArgumentError: unknown argument, a value out of bounds, or two that contradict each other.
    """

    _: KW_ONLY

    files: Files = Field(default_factory=list)
    """UTF-8 text files to learn; none stands for the help text that comes with Python."""
    block_size: Size = 96
    """Characters that the model sees at once."""
    num_layers: Size = 4
    """Layers of the model."""
    num_heads: Size = 4
    """Attention heads of a layer; they share the width."""
    width: Size = 128
    """Numbers by which the model represents a character."""
    dropout: Dropout = 0.0
    """Part of the activations that is dropped while training."""
    num_eval_blocks: Size = 500
    """Blocks of held-out text to score, at most; spread over all of it."""
    sample_length: Count = 300
    """Characters of the text that the model writes before and after training."""
    sample_temperature: NonNegative = 0.8
    """How freely it writes: 0 takes the likeliest character, 1 follows the model."""
    sample_prompt: str = "The "
    """What the written text begins with."""

    max_steps: MaxSteps = 1200
    """Optimizer steps to train, instead of num_train_epochs; -1 goes by the epochs."""
    per_device_train_batch_size: Size = 12
    """Blocks in a micro-batch."""
    per_device_eval_batch_size: Size = 48
    """Blocks in a batch of an evaluation."""
    learning_rate: NonNegative = 3e-3
    """Highest learning rate."""
    weight_decay: NonNegative = 0.01
    """Weight decay."""
    lr_scheduler_type: Schedule = SchedulerType.COSINE
    """How the learning rate moves: linear, cosine, constant, constant_with_warmup."""
    warmup_steps: Steps = 0.04
    """Steps over which the learning rate rises from 0; below 1, a part of the run."""
    logging_steps: Steps = 20
    """Steps between logs; below 1, a part of the run."""
    logging_first_step: bool = True
    """Log the first step too."""
    eval_strategy: Interval = IntervalStrategy.STEPS
    """When to evaluate: no, steps, epoch."""
    eval_steps: Steps | None = 0.2
    """Steps between evaluations, logging_steps where None; below 1, a part of the run."""
    save_steps: Steps = 0.2
    """Steps between checkpoints; below 1, a part of the run."""
    save_total_limit: Size | None = 2
    """Checkpoints to keep, the best and the last always among them; None keeps all."""
    metric_for_best_model: str | None = "loss"
    """Metric that tells which checkpoint is best, with or without eval_ before it."""
