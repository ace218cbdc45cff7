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
from stepbus.schemas.argument_names import KEPT, OWN, REFUSED, SUPPORTED
from stepbus.schemas.strategies import SCHEDULES, steps_of

OUR_DEFAULTS = {
    "output_dir": "trainer_output",
    "report_to": None,
    "disable_tqdm": False,
    "activation_checkpointing": False,
    "gradient_checkpointing": False,
    "nan_policy": "report",
    "preemption_budget_s": 30.0,
    "drain_timeout_s": 60.0,
    "logging_dir": None,
    "overwrite_output_dir": False,
}
"""What the reference fills in, does not have, or has otherwise on purpose."""


def made(name: str, value: Any) -> Any:
    arguments: dict[str, Any] = {name: value}
    return getattr(TrainingArguments(**arguments), name)


def test_the_arguments_are_those_that_are_listed() -> None:
    names = {field.name for field in dataclasses.fields(TrainingArguments)}
    assert names == SUPPORTED | OWN | KEPT | set(REFUSED)
    lists = [SUPPORTED, OWN, KEPT, set(REFUSED)]
    assert sum(map(len, lists)) == len(names)


def test_the_defaults_are_filled_in() -> None:
    args = TrainingArguments()
    assert {name: getattr(args, name) for name in OUR_DEFAULTS} == OUR_DEFAULTS
    assert TrainingArguments(output_dir=None) == args  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("learning_rat", "learning_rate"),
        (
            "batch_size",
            "auto_find_batch_size' or 'per_device_eval_batch_size' or 'per_device_train_batch_size",
        ),
        ("epochs", "num_train_epochs"),
        ("logging_step", "logging_steps"),
        ("out_dir", "output_dir"),
        ("checkpointing", "activation_checkpointing' or 'gradient_checkpointing"),
        ("fsd", "fsdp"),
    ],
)
def test_an_unknown_argument_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    arguments: dict[str, Any] = {wrong: 1}
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments(**arguments)
    sentence = f"TrainingArguments has no argument {wrong!r}: did you mean '{right}'?"
    assert str(caught.value) == sentence


def test_a_name_like_no_other_is_answered_in_one_line() -> None:
    with pytest.raises(ArgumentError, match=r"'zzz': no name is like it; the names are those of"):
        made("zzz", 1)


def test_every_unknown_argument_is_named() -> None:
    arguments: dict[str, Any] = {"learning_rat": 1, "sede": 2}
    with pytest.raises(ArgumentError, match=r"'learning_rat'.*'learning_rate'.*'sede'.*'seed'"):
        TrainingArguments(**arguments)


def test_only_the_folder_may_stand_without_its_name() -> None:
    assert TrainingArguments("out").output_dir == "out"
    with pytest.raises(ArgumentError, match="got 2 arguments without a name, but only output_dir"):
        TrainingArguments("out", 3)  # type: ignore[misc, arg-type]


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


@pytest.mark.parametrize("schedule", SchedulerType)
def test_every_schedule_is_taken_by_name(schedule: SchedulerType) -> None:
    args = TrainingArguments(lr_scheduler_type=schedule.value, eval_strategy="epoch")
    assert args.lr_scheduler_type is schedule
    assert schedule in SCHEDULES


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


def test_every_argument_that_is_obeyed_is_described() -> None:
    described = TrainingArguments.__pydantic_fields__  # type: ignore[attr-defined]
    silent = {name for name, field in described.items() if not field.description}
    assert silent == set(REFUSED)
