"""The training arguments beside those of the installed transformers."""

from __future__ import annotations

import dataclasses
import functools
from importlib import import_module
from typing import Any

import pytest

from stepbus.schemas import ArgumentError, TrainingArguments
from stepbus.schemas.argument_names import FORMER, FORMER_REFUSED, OWN, REFUSED, SUPPORTED

LISTED = sorted(SUPPORTED | set(REFUSED))

OUR_DEFAULTS = {"output_dir": "trainer_output", "report_to": None}
"""Differences on purpose; the reference, too, fills in the folder."""

SAMPLES: dict[str, Any] = {
    "output_dir": "out",
    "do_train": True,
    "do_predict": True,
    "resume_from_checkpoint": "out/checkpoint-1",
    "seed": 1,
    "data_seed": 2,
    "full_determinism": True,
    "local_rank": 0,
    "ddp_timeout": 60,
    "per_device_train_batch_size": 3,
    "per_device_eval_batch_size": 5,
    "auto_find_batch_size": True,
    "num_train_epochs": 2,
    "max_steps": 7,
    "gradient_accumulation_steps": 2,
    "average_tokens_across_devices": False,
    "max_grad_norm": 0.5,
    "label_smoothing_factor": 0.1,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "adam_beta1": 0.8,
    "adam_beta2": 0.95,
    "adam_epsilon": 1e-6,
    "optim": "sgd",
    "optim_args": "momentum=0.9",
    "lr_scheduler_type": "polynomial",
    "lr_scheduler_kwargs": '{"power": "2", "lr_end": "1.5", "flag": "True", "deep": {"n": 1}}',
    "warmup_steps": 0.1,
    "bf16_full_eval": True,
    "bf16": True,
    "fp16": True,
    "fp16_full_eval": True,
    "tf32": False,
    "activation_checkpointing": True,
    "activation_checkpointing_kwargs": {"use_reentrant": False},
    "torch_compile": True,
    "torch_compile_backend": "eager",
    "torch_compile_mode": "reduce-overhead",
    "use_cache": True,
    "torch_empty_cache_steps": 4,
    "logging_strategy": "epoch",
    "logging_steps": 10.0,
    "logging_first_step": True,
    "logging_nan_inf_filter": False,
    "log_level": "error",
    "log_level_replica": "passive",
    "log_on_each_node": False,
    "disable_tqdm": True,
    "include_num_input_tokens_seen": True,
    "report_to": "none",
    "run_name": "a run",
    "project": "a project",
    "trackio_space_id": "a space",
    "trackio_bucket_id": "a bucket",
    "trackio_static_space_id": False,
    "eval_strategy": "steps",
    "eval_steps": 20,
    "eval_delay": 3,
    "eval_on_start": True,
    "eval_accumulation_steps": 2,
    "eval_do_concat_batches": False,
    "batch_eval_metrics": True,
    "include_for_metrics": ["inputs", "loss"],
    "prediction_loss_only": True,
    "save_strategy": "epoch",
    "save_steps": 0.5,
    "save_total_limit": 2,
    "save_only_model": True,
    "metric_for_best_model": "accuracy",
    "greater_is_better": True,
    "ignore_data_skip": True,
    "restore_callback_states_from_checkpoint": True,
    "dataloader_drop_last": True,
    "dataloader_num_workers": 2,
    "dataloader_pin_memory": False,
    "dataloader_in_order": False,
    "dataloader_multiprocessing_context": "spawn",
    "remove_unused_columns": False,
    "label_names": ["labels"],
    "train_sampling_strategy": "group_by_length",
    "length_column_name": "n",
    "do_eval": True,
    "enable_jit_checkpoint": True,
    "push_to_hub": True,
    "hub_model_id": "me/model",
    "hub_strategy": "all_checkpoints",
    "hub_token": "secret",
    "hub_private_repo": True,
    "hub_always_push": True,
    "hub_revision": "a-branch",
}

TOGETHER: list[dict[str, Any]] = [
    {"dataloader_num_workers": 2, "dataloader_prefetch_factor": 4},
    {"dataloader_num_workers": 2, "dataloader_persistent_workers": True},
    {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"},
    {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "epoch"},
    {"gradient_checkpointing": True, "activation_checkpointing": False},
    {"eval_strategy": "steps", "logging_steps": 7},
]


def fields_of(cls: Any) -> dict[str, Any]:
    return {field.name: field for field in dataclasses.fields(cls)}


def default_of(field: Any) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return getattr(field.default, "value", field.default)


@functools.cache
def reference() -> Any:
    """The reference's class, loaded late: it takes seconds."""
    return import_module("transformers").TrainingArguments


def test_every_argument_of_the_reference_is_on_one_list() -> None:
    theirs = fields_of(reference()).keys()
    assert theirs - set(LISTED) == set(), "new arguments: support or refuse each"
    assert set(LISTED) - theirs == set(), "no longer arguments of the reference"
    assert not theirs & (OWN | FORMER.keys() | FORMER_REFUSED.keys())


@pytest.mark.parametrize("name", LISTED)
def test_a_default_is_that_of_the_reference(name: str) -> None:
    expected = OUR_DEFAULTS.get(name, default_of(fields_of(reference())[name]))
    ours = default_of(fields_of(TrainingArguments)[name])
    assert ours == expected
    assert (
        name in OUR_DEFAULTS
        or type(ours) is type(expected)
        or {float, int}
        >= {
            type(ours),
            type(expected),
        }
    )


def settled(value: Any) -> Any:
    if isinstance(value, list):
        return [settled(item) for item in value]
    return getattr(value, "value", value)


@functools.cache
def reference_accepts_bf16() -> bool:
    try:
        reference()("out", bf16=True)
    except ValueError:
        return False
    return True


def both(arguments: dict[str, Any]) -> tuple[Any, Any]:
    ours = TrainingArguments(**arguments)
    # The reference asks the machine about bfloat16 here; with us, the trainer does.
    if not reference_accepts_bf16() and any(name.startswith("bf16") for name in arguments):
        arguments = {**arguments, "use_cpu": True}
    return ours, reference()(**{"report_to": "none", **arguments})


def test_every_argument_has_a_sample() -> None:
    used = set(SAMPLES).union(*TOGETHER)
    left = SUPPORTED - used
    assert left == {"use_cpu", "gradient_checkpointing_kwargs"}, "tested by themselves"


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_value_becomes_what_it_becomes_in_the_reference(name: str) -> None:
    ours, theirs = both({name: SAMPLES[name]})
    assert settled(getattr(ours, name)) == settled(getattr(theirs, name))


@pytest.mark.parametrize("arguments", TOGETHER)
def test_what_follows_from_arguments_is_as_in_the_reference(arguments: dict[str, Any]) -> None:
    ours, theirs = both(arguments)
    apart = {"report_to", "accelerator_config", "debug"}
    for name in set(LISTED) - apart:
        assert settled(getattr(ours, name)) == settled(getattr(theirs, name)), name


def test_the_enums_of_the_reference_are_taken() -> None:
    utils = import_module("transformers.trainer_utils")
    names = import_module("transformers.training_args").OptimizerNames
    args = TrainingArguments(
        eval_strategy=utils.IntervalStrategy.EPOCH,
        save_strategy=utils.SaveStrategy.EPOCH,
        lr_scheduler_type=utils.SchedulerType.COSINE,
        optim=names.SGD,
        hub_strategy=utils.HubStrategy.CHECKPOINT,
    )
    taken = (args.eval_strategy, args.save_strategy, args.lr_scheduler_type, args.optim)
    assert taken == ("epoch", "epoch", "cosine", "sgd")
    assert args.eval_strategy == utils.IntervalStrategy.EPOCH
    assert args.optim == names.SGD
    assert args.hub_strategy == "checkpoint"


def test_every_other_optimizer_of_the_reference_is_refused_by_name() -> None:
    names = import_module("transformers.training_args").OptimizerNames
    ours = {"adamw_torch", "adamw_torch_fused", "sgd", "adagrad", "rmsprop"}
    for optim in names:
        if optim.value in ours:
            assert TrainingArguments(optim=optim).optim == optim.value
        else:
            with pytest.raises(ArgumentError, match=r"pass optimizers=\(optimizer, None\)"):
                TrainingArguments(optim=optim)
