"""Version 4's names of the training arguments."""

import copy
import dataclasses
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stepbus.schemas import ArgumentError, IntervalStrategy, TrainingArguments
from stepbus.schemas.argument_names import FORMER, FORMER_VALUES


@dataclass
class Script(TrainingArguments):
    block_size: int = 8


@dataclass
class OwnName(TrainingArguments):
    warmup_ratio: float = 0.5


class Forwarding(TrainingArguments):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)


ROWS: list[tuple[str, Any, dict[str, Any]]] = [
    ("evaluation_strategy", "epoch", {"eval_strategy": IntervalStrategy.EPOCH}),
    ("no_cuda", True, {"use_cpu": True}),
    ("no_cuda", False, {"use_cpu": False}),
    ("use_mps_device", True, {"use_cpu": False}),
    ("warmup_ratio", 0.1, {"warmup_steps": 0.1}),
    ("warmup_ratio", "0.1", {"warmup_steps": 0.1}),
    ("warmup_ratio", 0, {"warmup_steps": 0}),
    ("group_by_length", True, {"train_sampling_strategy": "group_by_length"}),
    ("group_by_length", False, {"train_sampling_strategy": "random"}),
    ("logging_dir", "logs", {"logging_dir": "logs"}),
    ("logging_dir", Path("logs"), {"logging_dir": "logs"}),
    ("overwrite_output_dir", True, {"overwrite_output_dir": True}),
    ("include_inputs_for_metrics", True, {"include_for_metrics": ["inputs"]}),
    ("include_inputs_for_metrics", False, {"include_for_metrics": []}),
    ("include_tokens_per_second", True, {"include_num_input_tokens_seen": "all"}),
    ("include_tokens_per_second", False, {"include_num_input_tokens_seen": "no"}),
    ("save_safetensors", True, {}),
    ("per_gpu_train_batch_size", 3, {"per_device_train_batch_size": 3}),
    ("per_gpu_train_batch_size", None, {"per_device_train_batch_size": 8}),
    ("per_gpu_eval_batch_size", 3, {"per_device_eval_batch_size": 3}),
    ("half_precision_backend", "auto", {}),
    ("fp16_backend", "auto", {}),
    ("torchdynamo", "eager", {"torch_compile_backend": "eager", "torch_compile": True}),
    ("push_to_hub_model_id", None, {"hub_model_id": None}),
    ("push_to_hub_model_id", "model", {"hub_model_id": "model"}),
    ("push_to_hub_organization", None, {"hub_model_id": None}),
    ("push_to_hub_organization", "they", {"hub_model_id": "they/out"}),
    ("push_to_hub_token", None, {"hub_token": None}),
    ("push_to_hub_token", "secret", {"hub_token": "secret"}),
]

CLASHES: list[tuple[dict[str, Any], str]] = [
    (
        {"evaluation_strategy": "steps", "eval_strategy": "epoch"},
        "evaluation_strategy is 'steps': but eval_strategy is 'epoch': leave evaluation_strategy",
    ),
    ({"no_cuda": True, "use_cpu": False}, "no_cuda is True: but use_cpu is False"),
    ({"warmup_ratio": 0.1, "warmup_steps": 5}, "warmup_ratio is 0.1: but warmup_steps is 5"),
    ({"group_by_length": True, "train_sampling_strategy": "random"}, "group_by_length is True"),
    (
        {"group_by_length": False, "train_sampling_strategy": "group_by_length"},
        "group_by_length is False: but train_sampling_strategy is 'group_by_length'",
    ),
    (
        {"include_inputs_for_metrics": True, "include_for_metrics": ["loss"]},
        r"include_for_metrics is \['loss'\]",
    ),
    (
        {"per_gpu_train_batch_size": 2, "per_device_train_batch_size": 4},
        "per_device_train_batch_size is 4: leave per_gpu_train_batch_size out",
    ),
]

WRONG: list[tuple[str, Any, str]] = [
    ("save_safetensors", False, "is False: weights are always written as safetensors"),
    ("half_precision_backend", "apex", "is 'apex': torch's own autocast is used"),
    ("fp16_backend", "amp", "is 'amp': torch's own autocast is used"),
    ("warmup_ratio", 1, "is 1: it should be at least 0 and below 1"),
    ("warmup_ratio", -0.1, "is -0.1: it should be at least 0 and below 1"),
    ("warmup_ratio", float("nan"), "is nan: it should be at least 0 and below 1"),
    ("warmup_ratio", float("inf"), "is inf: it should be at least 0 and below 1"),
    ("push_to_hub_model_id", "my model", "hub_model_id is 'my model': it should have letters"),
    ("push_to_hub_token", ["secret"], "hub_token is <HUB_TOKEN>: it should be a valid string"),
    ("evaluation_strategy", "often", "eval_strategy is 'often': it should be one of 'no'"),
]


@contextmanager
def warned_once(name: str) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    text = f"{name} is an argument of transformers 4. It has become {FORMER[name]}."
    told = [(warning.category, str(warning.message), warning.filename) for warning in caught]
    assert told == [(FutureWarning, text, __file__)]


def test_every_former_name_is_tried() -> None:
    assert {name for name, _, _ in ROWS} == FORMER.keys()
    assert FORMER_VALUES.keys() <= FORMER.keys()


@pytest.mark.parametrize("kind", [TrainingArguments, Script, Forwarding])
@pytest.mark.parametrize(("name", "value", "becomes"), ROWS)
def test_a_former_name_warns_once_and_means_what_it_meant(
    kind: Any, name: str, value: Any, becomes: dict[str, Any]
) -> None:
    with warned_once(name):
        args = kind(output_dir="out", **{name: value})
    assert {new: getattr(args, new) for new in becomes} == becomes
    assert name in becomes or not hasattr(args, name)


@pytest.mark.parametrize(("arguments", "message"), CLASHES)
def test_the_old_and_the_new_name_may_not_differ(arguments: dict[str, Any], message: str) -> None:
    with pytest.warns(FutureWarning), pytest.raises(ArgumentError, match=message):
        TrainingArguments(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"evaluation_strategy": "steps", "eval_strategy": IntervalStrategy.STEPS},
        {"no_cuda": True, "use_cpu": True},
        {"warmup_ratio": 0.1, "warmup_steps": 0},
        {"include_inputs_for_metrics": True, "include_for_metrics": ["inputs", "loss"]},
        {"include_inputs_for_metrics": False, "include_for_metrics": ["inputs"]},
        {"include_tokens_per_second": False, "include_num_input_tokens_seen": "all"},
        {"group_by_length": False, "train_sampling_strategy": "sequential"},
    ],
)
def test_the_old_and_the_new_name_may_agree(arguments: dict[str, Any]) -> None:
    with pytest.warns(FutureWarning):
        args = TrainingArguments(**arguments)
    new = {name: value for name, value in arguments.items() if name not in FORMER}
    if "warmup_ratio" in arguments:
        new = {"warmup_steps": 0.1}
    assert {name: getattr(args, name) for name in new} == new


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_a_wrong_value_of_a_former_name_is_named(name: str, value: Any, message: str) -> None:
    with pytest.warns(FutureWarning), pytest.raises(ArgumentError, match=message) as caught:
        TrainingArguments(**{name: value})
    assert "secret" not in str(caught.value)


def test_a_copy_keeps_what_became_of_former_names_and_is_silent() -> None:
    with pytest.warns(FutureWarning):
        args = Script(
            "out",
            evaluation_strategy="epoch",  # type: ignore[call-arg]
            warmup_ratio=0.1,
            logging_dir="logs",
            overwrite_output_dir=True,
        )
    twins = [
        dataclasses.replace(args, learning_rate=1.0),
        copy.deepcopy(args),
        pickle.loads(pickle.dumps(args)),
        Script(**args.to_dict()),
    ]
    for twin in twins:
        twin.validate()
        assert (twin.logging_dir, twin.overwrite_output_dir) == ("logs", True)
        assert (twin.eval_strategy, twin.warmup_steps) == ("epoch", 0.1)


def test_a_former_name_may_be_replaced_too() -> None:
    args = TrainingArguments("out")
    warned = pytest.warns(FutureWarning, match="evaluation_strategy")
    with warned, pytest.raises(ArgumentError, match="but eval_strategy is 'no'"):
        dataclasses.replace(args, evaluation_strategy="epoch")  # type: ignore[call-arg]


def test_a_field_of_ones_own_with_a_former_name_is_ones_own() -> None:
    args = OwnName("out", warmup_ratio=0.25)
    assert (args.warmup_ratio, args.warmup_steps) == (0.25, 0)


def test_where_tensorboard_wrote_in_version_4_is_told_to_events() -> None:
    with pytest.warns(FutureWarning, match="TensorBoard obeys it"):
        args = TrainingArguments("out", logging_dir="~/logs")
    assert args.frozen_copy()["logging_dir"] == str(Path.home() / "logs")
