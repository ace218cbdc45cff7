"""The bounds of the training arguments, and the error for a value outside them."""

import math
import typing
from typing import Any

import numpy as np
import pytest

from stepbus.schemas import ArgumentError, TrainingArguments
from stepbus.schemas.argument_names import REFUSED

NUMBERS = sorted(
    name
    for name, kind in typing.get_type_hints(TrainingArguments).items()
    if {int, float} & {kind, *typing.get_args(kind)} and name not in REFUSED
)

WRONG: list[tuple[str, Any, str]] = [
    ("num_train_epochs", 0, "greater than 0"),
    ("num_train_epochs", math.inf, "finite"),
    ("max_steps", 0, "greater than 0, or -1"),
    ("max_steps", -2, "greater than 0, or -1"),
    ("max_steps", 1.5, "valid integer"),
    ("per_device_train_batch_size", 0, "greater than 0"),
    ("per_device_train_batch_size", -8, "greater than 0"),
    ("per_device_train_batch_size", 2.5, "valid integer"),
    ("per_device_eval_batch_size", 0, "greater than 0"),
    ("gradient_accumulation_steps", 0, "greater than 0"),
    ("learning_rate", "abc", "valid number"),
    ("learning_rate", -1e-9, "greater than or equal to 0"),
    ("learning_rate", math.inf, "finite"),
    ("learning_rate", [1e-3], "valid number"),
    ("weight_decay", -0.1, "greater than or equal to 0"),
    ("adam_beta1", 1.0, "less than 1"),
    ("adam_beta1", -0.1, "greater than or equal to 0"),
    ("adam_beta2", 1.0, "less than 1"),
    ("adam_epsilon", 0.0, "greater than 0"),
    ("max_grad_norm", -1.0, "greater than or equal to 0"),
    ("lr_scheduler_type", "cosin", "did you mean 'cosine'?"),
    ("lr_scheduler_type", "greedy", "pass optimizers=(optimizer, scheduler) to the Trainer"),
    ("lr_scheduler_type", 3, "known: constant, constant_with_warmup, cosine"),
    ("lr_scheduler_kwargs", "num_cycles=3", "a dict, or one as JSON text"),
    ("lr_scheduler_kwargs", "{'num_cycles': 3}", "a dict, or one as JSON text"),
    ("lr_scheduler_kwargs", "[1]", "a dict, or one as JSON text"),
    ("lr_scheduler_kwargs", [1], "a dict whose keys are names"),
    ("lr_scheduler_kwargs", {1: 2}, "a dict whose keys are names"),
    ("lr_scheduler_kwargs", {"a": {"b": math.inf}}, "a finite number at 'b'"),
    ("lr_scheduler_kwargs", '{"power": NaN}', "a finite number at 'power'"),
    ("activation_checkpointing", "maybe", "valid boolean"),
    ("activation_checkpointing_kwargs", "reentrant", "a dict, or one as JSON text"),
    ("gradient_checkpointing_kwargs", 3, "a dict whose keys are names"),
    ("optim", "adamw", "for another one, pass optimizers=(optimizer, None) to the Trainer"),
    ("optim", None, "valid string"),
    ("optim_args", 3, "valid string"),
    ("label_smoothing_factor", 1.1, "less than or equal to 1"),
    ("label_smoothing_factor", -0.1, "greater than or equal to 0"),
    ("fp16", "maybe", "valid boolean"),
    ("tf32", "maybe", "valid boolean"),
    ("torch_compile", None, "valid boolean"),
    ("torch_compile_backend", 3, "valid string"),
    ("torch_empty_cache_steps", 0, "greater than 0"),
    ("torch_empty_cache_steps", 1.5, "valid integer"),
    ("log_level", "loud", "one of 'detail', 'debug', 'info', 'warning', 'error', 'critical'"),
    ("log_level_replica", 10, "valid string"),
    ("include_num_input_tokens_seen", "some", "one of 'all', 'non_padding', 'no'"),
    ("trackio_static_space_id", True, "valid string"),
    ("eval_accumulation_steps", 0, "greater than 0"),
    ("include_for_metrics", "inputs", "valid list"),
    ("dataloader_prefetch_factor", 0, "greater than 0"),
    ("dataloader_multiprocessing_context", "thread", "one of 'fork', 'spawn', 'forkserver'"),
    ("train_sampling_strategy", "longest", "one of 'random', 'sequential', 'group_by_length'"),
    ("train_sampling_strategy", "batch_rebalance", "choose group_by_length, or return a sampler"),
    ("label_names", 3, "valid list"),
    ("length_column_name", None, "valid string"),
    ("local_rank", 1, "start one process"),
    ("ddp_timeout", 0, "greater than 0"),
    ("warmup_steps", -1, "greater than or equal to 0"),
    ("warmup_steps", 1.5, "a whole number of steps, or a part of the run below 1"),
    ("logging_strategy", "best", "one of 'no', 'steps', 'epoch'"),
    ("logging_strategy", None, "one of 'no', 'steps', 'epoch'"),
    ("logging_steps", -1, "greater than or equal to 0"),
    ("logging_steps", 10.5, "a whole number of steps"),
    ("eval_strategy", "step", "one of 'no', 'steps', 'epoch'"),
    ("eval_steps", 2.5, "a whole number of steps"),
    ("eval_delay", -1, "greater than or equal to 0"),
    ("save_strategy", "last", "one of 'no', 'steps', 'epoch', 'best'"),
    ("save_steps", 7.1, "a whole number of steps"),
    ("save_total_limit", 0, "greater than 0"),
    ("metric_for_best_model", 3, "valid string"),
    ("greater_is_better", "maybe", "valid boolean"),
    ("seed", -1, "greater than or equal to 0"),
    ("seed", 2**32, "less than or equal to 4294967295"),
    ("seed", None, "valid integer"),
    ("data_seed", 2**32, "less than or equal to 4294967295"),
    ("bf16", "maybe", "valid boolean"),
    ("bf16", None, "valid boolean"),
    ("dataloader_num_workers", -1, "greater than or equal to 0"),
    ("resume_from_checkpoint", 3, "valid string"),
    ("report_to", 3, "a name, a list of names, or None"),
    ("report_to", ["wandb", 3], "a name, a list of names, or None"),
    ("report_to", "", "a name, a list of names, or None"),
    ("output_dir", "", "a folder"),
    ("output_dir", 3, "valid string"),
    ("nan_policy", "raise", "one of 'report', 'stop', 'strict'"),
    ("preemption_budget_s", 0, "greater than 0"),
    ("drain_timeout_s", -1, "greater than 0"),
]


def made(name: str, value: Any) -> Any:
    arguments: dict[str, Any] = {name: value}
    return getattr(TrainingArguments(**arguments), name)


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        made(name, value)
    message = str(caught.value)
    assert message.startswith(f"TrainingArguments.{name} is {value!r}: ")
    assert allowed in message
    assert "\n" not in message


def test_a_wrong_item_of_a_list_is_named() -> None:
    with pytest.raises(
        ArgumentError, match=r"include_for_metrics is 'labels': .* 'inputs', 'loss'"
    ):
        made("include_for_metrics", ["inputs", "labels"])


@pytest.mark.parametrize("name", NUMBERS)
def test_nan_and_infinity_are_no_numbers_anywhere(name: str) -> None:
    for wrong in (math.nan, "nan", np.float32("nan"), math.inf, -math.inf):
        with pytest.raises(ArgumentError, match=f"TrainingArguments.{name} is "):
            made(name, wrong)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_bool_is_no_number_anywhere(name: str) -> None:
    with pytest.raises(ArgumentError, match=f"{name} is True: it should be a number, not a bool"):
        made(name, True)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments(learning_rate=-1, seed=-1, max_steps=0)
    for name in ("learning_rate", "seed", "max_steps"):
        assert f"TrainingArguments.{name} is" in str(caught.value)
