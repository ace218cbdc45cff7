"""The training arguments: names and defaults as in the reference, bounds checked."""

import dataclasses
from dataclasses import KW_ONLY
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from . import argument_choices as choices
from . import argument_kinds as kinds
from .argument_assignment import checks_of
from .argument_checks import check_together
from .argument_names import REFUSED
from .argument_process import ProcessFacts
from .argument_setters import ArgumentSetters
from .argument_writing import WrittenArguments
from .arguments_meta import ArgumentsMeta, add_help
from .refused_arguments import RefusedArguments
from .strategies import (
    HubStrategy,
    IntervalStrategy,
    OptimizerNames,
    SaveStrategy,
    SchedulerType,
)


@dataclass(config=ConfigDict(use_attribute_docstrings=True, extra="forbid"))
class TrainingArguments(
    WrittenArguments, ProcessFacts, ArgumentSetters, RefusedArguments, metaclass=ArgumentsMeta
):
    """What a run obeys.

    A dataclass: `TrainingArguments("out", max_steps=100)`, `dataclasses.replace`, assignment
    before the run starts, and `@dataclass` subclasses with fields of their own all work. Values
    are checked when the object is made and again, with `validate`, when a run starts. Names of
    version 4 are taken with a warning each.

    Raises:
        ArgumentError: an unknown argument, one that is refused by name, a value out of bounds,
            or two that contradict each other.
    """

    output_dir: kinds.Folder = kinds.DEFAULT_FOLDER
    """Folder of checkpoints, logs and votes; `trainer_output` where None is given."""
    _: KW_ONLY

    do_train: bool = False
    """For scripts to read; no effect of its own."""
    do_eval: bool = False
    """For scripts to read; on where eval_strategy is not `no`."""
    do_predict: bool = False
    """For scripts to read; no effect of its own."""

    num_train_epochs: kinds.Positive = 3.0
    """Epochs to train; a fraction ends in the middle of an epoch."""
    max_steps: kinds.MaxSteps = -1
    """Optimizer steps to train, instead of num_train_epochs; -1 goes by the epochs."""
    per_device_train_batch_size: kinds.Size = 8
    """Samples in a micro-batch."""
    per_device_eval_batch_size: kinds.Size = 8
    """Samples in a batch of an evaluation."""
    auto_find_batch_size: bool = False
    """Start again with a smaller batch where the memory of the device does not suffice."""
    gradient_accumulation_steps: kinds.Size = 1
    """Micro-batches in an optimizer step."""
    average_tokens_across_devices: bool = True
    """Count the tokens of all devices for the loss; no effect on one device."""

    learning_rate: kinds.NonNegative = 5e-5
    """Highest learning rate."""
    weight_decay: kinds.NonNegative = 0.0
    """Weight decay."""
    adam_beta1: kinds.Beta = 0.9
    """First beta of AdamW."""
    adam_beta2: kinds.Beta = 0.999
    """Second beta of AdamW."""
    adam_epsilon: kinds.Positive = 1e-8
    """Epsilon of AdamW."""
    optim: choices.Optimizer = OptimizerNames.ADAMW_TORCH_FUSED
    """Optimizer: adamw_torch_fused, adamw_torch, sgd, adagrad, rmsprop."""
    optim_args: str | None = None
    """Further arguments of the optimizer, as `name=value,name=value`."""
    max_grad_norm: kinds.NonNegative = 1.0
    """Norm to which gradients are clipped; 0 leaves them as they are."""
    label_smoothing_factor: kinds.Part = 0.0
    """Part of a label's weight that is spread over all labels."""
    lr_scheduler_type: choices.Schedule = SchedulerType.LINEAR
    """How the learning rate moves: linear, cosine, constant_with_warmup and others."""
    lr_scheduler_kwargs: kinds.Settings = None
    """Further arguments of the schedule; JSON text of a dict will do."""
    warmup_steps: kinds.Steps = 0
    """Steps over which the learning rate rises from 0; below 1, a part of the run."""

    bf16: bool = False
    """Compute in bfloat16 with weights in float32."""
    fp16: bool = False
    """Compute in float16 with weights in float32 and a scaled loss."""
    bf16_full_eval: bool = False
    """Evaluate with weights in bfloat16."""
    fp16_full_eval: bool = False
    """Evaluate with weights in float16."""
    tf32: bool | None = dataclasses.field(default=None, metadata=kinds.SWITCH)
    """Whether CUDA may multiply in TF32; None leaves torch's setting."""
    activation_checkpointing: bool | None = dataclasses.field(default=None, metadata=kinds.SWITCH)
    """Compute activations again in the backward pass instead of keeping them."""
    activation_checkpointing_kwargs: kinds.Settings = None
    """Further arguments of activation checkpointing; JSON text of a dict will do."""
    gradient_checkpointing: bool | None = dataclasses.field(default=None, metadata=kinds.SWITCH)
    """The older name of activation_checkpointing."""
    gradient_checkpointing_kwargs: kinds.Settings = None
    """The older name of activation_checkpointing_kwargs."""
    torch_compile: bool = False
    """Compile the model."""
    torch_compile_backend: str | None = None
    """Backend that compiles the model; inductor where None and torch_compile is on."""
    torch_compile_mode: str | None = None
    """Mode of compiling the model."""
    use_cache: bool = False
    """Let the model keep keys and values while it trains."""
    torch_empty_cache_steps: kinds.Size | None = None
    """Steps between which the device's cached memory is given back; None keeps it."""

    logging_strategy: choices.Interval = IntervalStrategy.STEPS
    """When to log: no, steps, epoch."""
    logging_steps: kinds.Steps = 500
    """Steps between logs; below 1, a part of the run."""
    logging_first_step: bool = False
    """Log the first step too."""
    logging_nan_inf_filter: bool = True
    """Kept for its name: NaN and inf are reported as they are."""
    log_level: choices.LogLevel = "passive"
    """Level of transformers' loggers: passive leaves it, or debug, info, warning, error."""
    log_level_replica: choices.LogLevel = "warning"
    """Kept for its name: there are no other processes."""
    log_on_each_node: bool = True
    """Kept for its name: there is one machine."""
    include_num_input_tokens_seen: choices.TokenCount = dataclasses.field(
        default="no", metadata={"nargs": "?", "const": "all"}
    )
    """Input tokens to count: all, non_padding, no."""
    disable_tqdm: kinds.Switch = None
    """Show plain lines instead of a progress bar."""
    report_to: kinds.Names = None
    """Trackers to report to: names, all or none; where None, those that are set up."""
    run_name: str | None = None
    """Name of the run in trackers."""
    project: str = "huggingface"
    """Name of the project in trackers that group runs."""
    trackio_space_id: str | None = None
    """Space that trackio shows the run in."""
    trackio_bucket_id: str | None = None
    """Bucket that trackio keeps the run in."""
    trackio_static_space_id: str | None | Literal[False] = None  # noqa: RUF036
    """Static space that trackio makes at the end; False makes none."""
    logging_dir: kinds.OptionalFolder = None
    """Version 4's folder for TensorBoard."""

    eval_strategy: choices.Interval = IntervalStrategy.NO
    """When to evaluate: no, steps, epoch."""
    eval_steps: kinds.Steps | None = None
    """Steps between evaluations, logging_steps where None; below 1, a part of the run."""
    eval_delay: kinds.Delay = 0
    """Steps or epochs, as eval_strategy counts, before the first evaluation."""
    eval_on_start: bool = False
    """Evaluate once before the first step."""
    eval_accumulation_steps: kinds.Size | None = None
    """Batches after which predictions leave the device; None moves them at the end."""
    eval_do_concat_batches: bool = True
    """Join the predictions of all batches, rather than list them."""
    batch_eval_metrics: bool = False
    """Call compute_metrics after each batch, to keep no predictions."""
    include_for_metrics: list[choices.MetricInput] = dataclasses.field(default_factory=list)
    """What compute_metrics gets besides predictions and labels: inputs, loss."""
    prediction_loss_only: bool = False
    """Evaluate the loss alone."""

    save_strategy: choices.SaveInterval = SaveStrategy.STEPS
    """When to save a checkpoint: no, steps, epoch, best."""
    save_steps: kinds.Steps = 500
    """Steps between checkpoints; below 1, a part of the run."""
    save_total_limit: kinds.Size | None = None
    """Checkpoints to keep, the best and the last always among them; None keeps all."""
    save_only_model: bool = False
    """Save the weights alone: such a checkpoint cannot be resumed."""
    enable_jit_checkpoint: bool = False
    """Kept for its name: a signal always leads to a last checkpoint."""
    load_best_model_at_end: bool = False
    """Load the weights of the best checkpoint when training ends."""
    metric_for_best_model: str | None = None
    """Metric that tells which checkpoint is best, with or without eval_ before it."""
    greater_is_better: bool | None = None
    """Whether more is better; where None, unless the metric's name ends in loss."""
    resume_from_checkpoint: kinds.Checkpoint = None
    """Checkpoint folder to continue from; True means the last one in output_dir."""
    ignore_data_skip: bool = False
    """On resume, start the epoch's data anew instead of where it was left."""
    restore_callback_states_from_checkpoint: bool = False
    """Kept for its name: a resumed run equals the unbroken one, so callbacks always get the state
    that the checkpoint holds."""
    overwrite_output_dir: bool = False
    """Version 4's; no effect."""

    seed: kinds.Seed = 42
    """Seed of weights, dropout and, without data_seed, data order."""
    data_seed: kinds.Seed | None = None
    """Seed of the data order."""
    full_determinism: bool = False
    """Use deterministic algorithms alone, which is slower."""
    use_cpu: bool = False
    """Stay on the CPU even if there is a GPU."""
    local_rank: kinds.Rank = -1
    """Number that a launcher gives the process."""
    ddp_timeout: kinds.Size = 1800
    """Kept for its name: there are no other processes to wait for."""

    dataloader_num_workers: kinds.Count = 0
    """Processes that load data; 0 loads it in the training process."""
    dataloader_drop_last: bool = False
    """Leave out a last batch that is not full."""
    dataloader_pin_memory: bool = True
    """Load batches into memory from which a GPU copies without waiting."""
    dataloader_persistent_workers: bool = False
    """Keep the processes that load data from one epoch to the next."""
    dataloader_prefetch_factor: kinds.Size | None = None
    """Batches that each process loads ahead."""
    dataloader_multiprocessing_context: choices.StartMethod | None = None
    """How the processes that load data are started: fork, spawn, forkserver."""
    dataloader_in_order: bool = True
    """Take batches in the order they were asked for, not as they come."""
    remove_unused_columns: bool = True
    """Leave out columns of the dataset that the model's forward does not take."""
    label_names: kinds.Columns = None
    """Names of the inputs that are labels; None finds them by the model's forward."""
    train_sampling_strategy: choices.Sampling = "random"
    """Order of the training samples: random, sequential, group_by_length."""
    length_column_name: str = "length"
    """Column that holds the lengths by which group_by_length groups."""

    push_to_hub: bool = False
    """Push what is saved to a repository of the Hugging Face Hub."""
    hub_model_id: kinds.Repository = None
    """The repository: name, or owner/name; named like output_dir where None."""
    hub_strategy: choices.HubPushes = HubStrategy.EVERY_SAVE
    """What of the saves is pushed: end (what save_model writes), every_save (the model),
    checkpoint (the last checkpoint too), all_checkpoints."""
    hub_token: kinds.Secret = None
    """Token that may write there; None uses HF_TOKEN or the login."""
    hub_private_repo: bool | None = dataclasses.field(default=None, metadata=kinds.SWITCH)
    """Make a private repository, where there is none yet; None makes what the owner prefers."""
    hub_always_push: bool = False
    """Push each save, rather than the newest where they come faster than they are pushed."""
    hub_revision: str | None = None
    """Branch that is pushed to, which must exist; None means main."""

    nan_policy: choices.NanPolicy = "report"
    """What comes of a loss or gradient norm that is NaN or infinite: report it, stop (a vote, once
    it is known), strict (before the optimizer steps, and the step waits for the values)."""
    preemption_budget_s: kinds.Positive = 30.0
    """Seconds that a signal leaves for a last save."""
    drain_timeout_s: kinds.Positive = 60.0
    """Seconds that a run which ends waits for its subscribers."""

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Checks all values again, those assigned after construction too, and normalises them.

        Raises:
            ArgumentError: a value out of bounds, or two that contradict each other.
        """
        self.assign_again()
        check_together(self)


TrainingArguments.checks = checks_of(TrainingArguments)
add_help(TrainingArguments, otherwise=dict(REFUSED))
