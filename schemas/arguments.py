"""The training arguments: names and defaults as in the reference, bounds checked."""

import dataclasses
import json
from dataclasses import KW_ONLY
from enum import Enum
from typing import Any

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from .argument_checks import check_together
from .argument_kinds import (
    DEFAULT_FOLDER,
    Beta,
    Checkpoint,
    Count,
    Folder,
    Interval,
    MaxSteps,
    Names,
    NonNegative,
    Positive,
    SaveInterval,
    Schedule,
    Seed,
    Size,
    Steps,
    Switch,
)
from .arguments_meta import ArgumentsMeta, explain
from .errors import ArgumentError
from .strategies import IntervalStrategy, SaveStrategy, SchedulerType, steps_of
from .values import FrozenDict


@dataclass(config=ConfigDict(use_attribute_docstrings=True, extra="forbid"))
class TrainingArguments(metaclass=ArgumentsMeta):
    """What a run obeys.

    A dataclass: `TrainingArguments("out", max_steps=100)`, `dataclasses.replace`, assignment
    before the run starts, and `@dataclass` subclasses with fields of their own all work. Values
    are checked when the object is made and again, with `validate`, when a run starts.

    Raises:
        ArgumentError: unknown argument, a value out of bounds, or two that contradict each other.
    """

    output_dir: Folder = DEFAULT_FOLDER
    """Folder of checkpoints, logs and votes; `trainer_output` where None is given."""
    _: KW_ONLY

    num_train_epochs: Positive = 3.0
    """Epochs to train; a fraction ends in the middle of an epoch."""
    max_steps: MaxSteps = -1
    """Optimizer steps to train, instead of num_train_epochs; -1 goes by the epochs."""
    per_device_train_batch_size: Size = 8
    """Samples in a micro-batch."""
    per_device_eval_batch_size: Size = 8
    """Samples in a batch of an evaluation."""
    gradient_accumulation_steps: Size = 1
    """Micro-batches in an optimizer step."""

    learning_rate: NonNegative = 5e-5
    """Highest learning rate."""
    weight_decay: NonNegative = 0.0
    """Weight decay."""
    adam_beta1: Beta = 0.9
    """First beta of AdamW."""
    adam_beta2: Beta = 0.999
    """Second beta of AdamW."""
    adam_epsilon: Positive = 1e-8
    """Epsilon of AdamW."""
    max_grad_norm: NonNegative = 1.0
    """Norm to which gradients are clipped; 0 leaves them as they are."""
    lr_scheduler_type: Schedule = SchedulerType.LINEAR
    """How the learning rate moves: linear, cosine, constant, constant_with_warmup."""
    warmup_steps: Steps = 0
    """Steps over which the learning rate rises from 0; below 1, a part of the run."""

    logging_strategy: Interval = IntervalStrategy.STEPS
    """When to log: no, steps, epoch."""
    logging_steps: Steps = 500
    """Steps between logs; below 1, a part of the run."""
    logging_first_step: bool = False
    """Log the first step too."""

    eval_strategy: Interval = IntervalStrategy.NO
    """When to evaluate: no, steps, epoch."""
    eval_steps: Steps | None = None
    """Steps between evaluations, logging_steps where None; below 1, a part of the run."""
    eval_delay: NonNegative = 0
    """Steps or epochs, as eval_strategy counts, before the first evaluation."""
    eval_on_start: bool = False
    """Evaluate once before the first step."""

    save_strategy: SaveInterval = SaveStrategy.STEPS
    """When to save a checkpoint: no, steps, epoch, best."""
    save_steps: Steps = 500
    """Steps between checkpoints; below 1, a part of the run."""
    save_total_limit: Size | None = None
    """Checkpoints to keep, the best and the last always among them; None keeps all."""
    save_only_model: bool = False
    """Save the weights alone: such a checkpoint cannot be resumed."""
    load_best_model_at_end: bool = False
    """Load the weights of the best checkpoint when training ends."""
    metric_for_best_model: str | None = None
    """Metric that tells which checkpoint is best, with or without eval_ before it."""
    greater_is_better: bool | None = None
    """Whether more is better; where None, unless the metric's name ends in loss."""

    seed: Seed = 42
    """Seed of weights, dropout and, without data_seed, data order."""
    data_seed: Seed | None = None
    """Seed of the data order."""
    bf16: bool = False
    """Compute in bfloat16 with weights in float32."""
    use_cpu: bool = False
    """Stay on the CPU even if there is a GPU."""
    dataloader_num_workers: Count = 0
    """Processes that load data; 0 loads it in the training process."""
    dataloader_drop_last: bool = False
    """Leave out a last batch that is not full."""

    resume_from_checkpoint: Checkpoint = None
    """Checkpoint folder to continue from; True means the last one in output_dir."""
    ignore_data_skip: bool = False
    """On resume, start the epoch's data anew instead of where it was left."""
    restore_callback_states_from_checkpoint: bool = False
    """Kept for its name: a resumed run equals the unbroken one, so callbacks always get the state
    that the checkpoint holds."""

    report_to: Names = None
    """Trackers to report to: names, all or none; where None, those that are set up."""
    run_name: str | None = None
    """Name of the run in trackers."""
    disable_tqdm: Switch = None
    """Show plain lines instead of a progress bar."""

    preemption_budget_s: Positive = 30.0
    """Seconds that a signal leaves for a last save."""
    drain_timeout_s: Positive = 60.0
    """Seconds that a run which ends waits for its subscribers."""

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Checks all values again, those assigned after construction too, and normalises them.

        Raises:
            ArgumentError: a value out of bounds, or two that contradict each other.
        """
        validator = TrainingArguments.__pydantic_validator__  # type: ignore[attr-defined]
        # The validator keeps none but its own fields, so it works beside a subclass's object.
        checked = object.__new__(TrainingArguments)
        problems = []
        for name in _FIELDS:
            try:
                validator.validate_assignment(checked, name, getattr(self, name))
                setattr(self, name, getattr(checked, name))
            except ValidationError as error:
                problems += error.errors()
        if problems:
            raise ArgumentError(explain(type(self).__name__, problems))
        check_together(self)

    @property
    def train_batch_size(self) -> int:
        """Samples in a micro-batch over all devices of this process."""
        return self.per_device_train_batch_size

    @property
    def eval_batch_size(self) -> int:
        """Samples in a batch of an evaluation over all devices of this process."""
        return self.per_device_eval_batch_size

    @property
    def trackers(self) -> list[str] | None:
        """The names in `report_to`; None for those that are set up."""
        names = self.report_to
        return [names] if isinstance(names, str) else names

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Warm-up steps of a run of `num_training_steps` steps."""
        return steps_of(self.warmup_steps, num_training_steps)

    def to_dict(self) -> dict[str, Any]:
        """The arguments as plain values; those named `..._token` as `<..._TOKEN>`."""
        return {
            field.name: f"<{field.name.upper()}>"
            if field.name.endswith("_token")
            else _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.init
        }

    def to_json_string(self) -> str:
        """`to_dict` as JSON, 2 spaces a level."""
        return json.dumps(self.to_dict(), indent=2, default=str)

    def to_sanitized_dict(self) -> dict[str, Any]:
        """`to_dict` and the batch sizes, everything but numbers and text as text."""
        values = self.to_dict()
        values["train_batch_size"] = self.train_batch_size
        values["eval_batch_size"] = self.eval_batch_size
        return {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in values.items()
        }

    def frozen_copy(self) -> FrozenDict[str, Any]:
        """What events carry: `to_dict`, read-only, foreign objects as text."""
        return FrozenDict({name: _frozen(value) for name, value in self.to_dict().items()})


_FIELDS = tuple(field.name for field in dataclasses.fields(TrainingArguments))


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _frozen(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return FrozenDict({str(key): _frozen(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return str(value)
