"""Training arguments one by one: names, defaults, and what a value becomes."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.schemas import (
    ArgumentError,
    IntervalStrategy,
    SaveStrategy,
    SchedulerType,
    TrainingArguments,
)
from stepbus.schemas.strategies import SCHEDULES, steps_of

DEFAULTS = {
    "output_dir": "trainer_output",
    "num_train_epochs": 3.0,
    "max_steps": -1,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-5,
    "weight_decay": 0.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "max_grad_norm": 1.0,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "logging_strategy": "steps",
    "logging_steps": 500,
    "logging_first_step": False,
    "eval_strategy": "no",
    "eval_steps": None,
    "eval_delay": 0,
    "eval_on_start": False,
    "save_strategy": "steps",
    "save_steps": 500,
    "save_total_limit": None,
    "save_only_model": False,
    "load_best_model_at_end": False,
    "metric_for_best_model": None,
    "greater_is_better": None,
    "seed": 42,
    "data_seed": None,
    "bf16": False,
    "use_cpu": False,
    "dataloader_num_workers": 0,
    "dataloader_drop_last": False,
    "resume_from_checkpoint": None,
    "ignore_data_skip": False,
    "restore_callback_states_from_checkpoint": False,
    "report_to": None,
    "run_name": None,
    "disable_tqdm": False,
    "preemption_budget_s": 30.0,
    "drain_timeout_s": 60.0,
}


def made(name: str, value: Any) -> Any:
    arguments: dict[str, Any] = {name: value}
    return getattr(TrainingArguments(**arguments), name)


def test_the_defaults_are_those_of_the_reference() -> None:
    args = TrainingArguments()
    values = {field.name: getattr(args, field.name) for field in dataclasses.fields(args)}
    assert values == DEFAULTS
    assert TrainingArguments(output_dir=None) == args  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("learning_rat", "learning_rate"),
        ("batch_size", "per_device_eval_batch_size' or 'per_device_train_batch_size"),
        ("epochs", "num_train_epochs"),
        ("logging_step", "logging_steps"),
        ("out_dir", "output_dir"),
    ],
)
def test_an_unknown_argument_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    arguments: dict[str, Any] = {wrong: 1}
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments(**arguments)
    sentence = f"TrainingArguments has no argument {wrong!r}: did you mean '{right}'?"
    assert str(caught.value) == sentence


def test_every_unknown_argument_is_named() -> None:
    arguments: dict[str, Any] = {"learning_rat": 1, "sede": 2}
    with pytest.raises(ArgumentError, match=r"'learning_rat'.*'learning_rate'.*'sede'.*'seed'"):
        TrainingArguments(**arguments)


def test_only_the_folder_may_stand_without_its_name() -> None:
    assert TrainingArguments("out").output_dir == "out"
    with pytest.raises(ArgumentError, match="got 2 arguments without a name, but only output_dir"):
        TrainingArguments("out", 3)  # type: ignore[call-arg]


def test_numbers_of_numpy_and_numbers_as_text_become_plain_numbers() -> None:
    args = TrainingArguments(
        learning_rate="2e-3",  # type: ignore[arg-type]
        weight_decay=np.float32(0.5),  # type: ignore[arg-type]
        max_steps=np.int64(10),  # type: ignore[arg-type]
        seed=7.0,  # type: ignore[arg-type]
    )
    values = (args.learning_rate, args.weight_decay, args.max_steps, args.seed)
    assert values == (0.002, 0.5, 10, 7)
    assert [type(value) for value in values] == [float, float, int, int]


def test_folders_may_be_paths_and_begin_with_a_tilde(tmp_path: Path) -> None:
    assert made("output_dir", tmp_path) == str(tmp_path)
    assert made("output_dir", "~/runs/") == f"{Path.home()}/runs/"
    assert made("resume_from_checkpoint", tmp_path) == str(tmp_path)


def test_resuming_takes_a_folder_or_true_for_the_last() -> None:
    assert made("resume_from_checkpoint", "out/checkpoint-5") == "out/checkpoint-5"
    assert made("resume_from_checkpoint", True) is True
    assert made("resume_from_checkpoint", False) is None


@pytest.mark.parametrize(
    ("given_names", "names"),
    [
        (None, None),
        ("none", []),
        (["none"], []),
        ([], []),
        ("all", ["all"]),
        ("wandb", ["wandb"]),
        (("wandb", "tensorboard"), ["wandb", "tensorboard"]),
        (["wandb", "wandb"], ["wandb", "wandb"]),
    ],
)
def test_trackers_are_a_list_or_none_for_those_set_up(
    given_names: Any, names: list[str] | None
) -> None:
    args = TrainingArguments(report_to=given_names)
    assert args.report_to == names
    assert args.trackers == names


def test_strategies_and_schedules_are_enums_equal_to_their_text() -> None:
    args = TrainingArguments(
        eval_strategy="epoch", save_strategy=SaveStrategy.EPOCH, lr_scheduler_type="cosine"
    )
    assert args.eval_strategy is IntervalStrategy.EPOCH
    assert args.save_strategy == "epoch"
    assert args.lr_scheduler_type is SchedulerType.COSINE
    assert f"{args.lr_scheduler_type}" == "cosine"


def test_every_schedule_is_run_or_refused_by_name() -> None:
    assert {schedule.value for schedule in SchedulerType} == {
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
        "reduce_lr_on_plateau",
        "cosine_with_min_lr",
        "cosine_warmup_with_min_lr",
        "warmup_stable_decay",
    }
    for schedule in SchedulerType:
        if schedule in SCHEDULES:
            assert made("lr_scheduler_type", schedule.value) is schedule
        else:
            with pytest.raises(ArgumentError, match="not yet"):
                made("lr_scheduler_type", schedule)


@pytest.mark.parametrize("name", ["logging_steps", "eval_steps", "save_steps", "warmup_steps"])
def test_counts_of_steps_are_whole_and_ratios_are_kept(name: str) -> None:
    assert repr(made(name, 10.0)) == "10"
    assert repr(made(name, 1)) == "1"
    assert repr(made(name, 0.25)) == "0.25"


@given(st.floats(0, 1, exclude_min=True, exclude_max=True), st.integers(1, 10**6))
def test_a_ratio_is_a_part_of_the_run_rounded_up(ratio: float, max_steps: int) -> None:
    steps = steps_of(ratio, max_steps)
    assert type(steps) is int
    assert steps == math.ceil(ratio * max_steps)
    assert 1 <= steps <= max_steps


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_count_is_itself_whatever_the_run(count: int, max_steps: int) -> None:
    assert steps_of(count, max_steps) == count


def test_warm_up_is_a_ratio_below_one() -> None:
    assert TrainingArguments().get_warmup_steps(1000) == 0
    assert TrainingArguments(warmup_steps=0.05).get_warmup_steps(1010) == 51
    assert TrainingArguments(warmup_steps=1).get_warmup_steps(1000) == 1
    assert TrainingArguments(warmup_steps=100).get_warmup_steps(10) == 100


def test_batch_sizes_are_those_of_the_one_device() -> None:
    args = TrainingArguments(per_device_train_batch_size=3, per_device_eval_batch_size=5)
    assert (args.train_batch_size, args.eval_batch_size) == (3, 5)


def test_every_argument_is_described() -> None:
    described = TrainingArguments.__pydantic_fields__  # type: ignore[attr-defined]
    assert set(described) == set(DEFAULTS)
    assert [name for name, field in described.items() if not field.description] == []
