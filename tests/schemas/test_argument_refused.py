"""Arguments of the reference that must stay at their default."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from stepbus.schemas import ArgumentError, TrainingArguments
from stepbus.schemas.argument_names import FORMER_REFUSED, REFUSED

OTHER: dict[str, list[Any]] = {
    "deepspeed": ["ds.json", {"zero_optimization": {"stage": 2}}],
    "fsdp": ["full_shard auto_wrap", True, ["full_shard"]],
    "fsdp_config": ["fsdp.json", {"version": 2}],
    "parallelism_config": [SimpleNamespace(dp_size=2)],
    "accelerator_config": [{"split_batches": True}, SimpleNamespace(split_batches=True)],
    "ddp_find_unused_parameters": [False, True],
    "ddp_bucket_cap_mb": [25],
    "ddp_broadcast_buffers": [False],
    "ddp_static_graph": [True],
    "ddp_backend": ["nccl"],
    "save_on_each_node": [True, "yes"],
    "eval_use_gather_object": [True],
    "use_liger_kernel": [True],
    "liger_kernel_config": [{"rope": True}],
    "neftune_noise_alpha": [5, 0.1, float("nan")],
    "optim_target_modules": ["all-linear", ["attn", "mlp"]],
    "debug": ["underflow_overflow", ["underflow_overflow"]],
    "skip_memory_metrics": [False],
}

ROWS = [(name, value) for name, values in OTHER.items() for value in values]

INSTEAD = {
    "deepspeed": "shards no model",
    "accelerator_config": "dataloader_\\* arguments",
    "ddp_backend": "one process on one device: leave it out",
    "use_liger_kernel": "call liger_kernel's apply function",
    "neftune_noise_alpha": "forward hook",
    "optim_target_modules": r"pass optimizers=\(optimizer, None\)",
    "debug": "set_detect_anomaly",
    "skip_memory_metrics": "max_memory_allocated",
}


def test_every_refused_argument_is_tried() -> None:
    assert OTHER.keys() == REFUSED.keys()


@pytest.mark.parametrize(("name", "value"), ROWS)
def test_a_value_other_than_the_default_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments("out", **{name: value})
    message = str(caught.value)
    assert message.startswith(f"TrainingArguments.{name} is {value!r}: ")
    assert message.count("TrainingArguments.") == 1
    assert message.endswith(".")


@pytest.mark.parametrize("name", INSTEAD)
def test_the_refusal_says_what_to_do_instead(name: str) -> None:
    with pytest.raises(ArgumentError, match=INSTEAD[name]):
        TrainingArguments("out", **{name: OTHER[name][0]})


@pytest.mark.parametrize("name", sorted(OTHER))
def test_the_default_is_taken_and_read(name: str) -> None:
    default = TrainingArguments.__dataclass_fields__[name].default
    args = TrainingArguments("out", **{name: default})
    assert getattr(args, name) == default
    setattr(args, name, OTHER[name][0])
    with pytest.raises(ArgumentError, match=f"TrainingArguments.{name} is "):
        args.validate()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsdp", ""),
        ("fsdp", []),
        ("fsdp", False),
        ("fsdp_config", {}),
        ("deepspeed", ""),
        ("debug", []),
        ("debug", None),
        ("optim_target_modules", []),
        ("skip_memory_metrics", "true"),
    ],
)
def test_what_says_nothing_is_the_default(name: str, value: Any) -> None:
    args = TrainingArguments("out", **{name: value})
    assert getattr(args, name) == getattr(TrainingArguments("out"), name)


def test_a_dict_of_arguments_can_be_read_back() -> None:
    args = TrainingArguments("out", eval_strategy="epoch", hub_token="very-secret")
    values = args.to_dict()
    assert values["hub_token"] == "<HUB_TOKEN>"
    again = TrainingArguments(**values)
    assert again.hub_token is None, "a token is not written down"
    assert dataclasses.replace(args, hub_token=None) == again


def test_several_refusals_are_told_at_once() -> None:
    with pytest.raises(ArgumentError, match=r"\.fsdp is .*\.ddp_backend is 'nccl'"):
        TrainingArguments("out", ddp_backend="nccl", fsdp="full_shard")


def test_a_setter_refuses_what_the_constructor_refuses() -> None:
    with pytest.raises(ArgumentError, match="save_on_each_node is True: stepbus trains in one"):
        TrainingArguments("out").set_save(on_each_node=True)


@pytest.mark.parametrize("name", sorted(FORMER_REFUSED))
def test_a_former_argument_that_is_gone_is_refused_by_name(name: str) -> None:
    arguments: dict[str, Any] = {name: 1}
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments("out", **arguments)
    assert str(caught.value) == f"TrainingArguments.{name} is 1: {FORMER_REFUSED[name]}."


def test_no_refused_argument_is_left_without_a_field() -> None:
    fields = {field.name: field for field in dataclasses.fields(TrainingArguments)}
    assert all(fields[name].init and fields[name].kw_only for name in OTHER)
