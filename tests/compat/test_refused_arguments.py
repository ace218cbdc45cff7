"""Arguments that are refused, each by name and with what to do instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stepbus import ArgumentError, TrainingArguments
from stepbus.schemas.argument_names import (
    FORMER_REFUSED,
    FORMER_VALUES,
    REFUSED,
)
from tests.compat.pairs import make
from tests.differential.libraries import STEPBUS

OTHER: dict[str, Any] = {
    "deepspeed": "ds.json",
    "fsdp": "full_shard",
    "fsdp_config": {"version": 2},
    "parallelism_config": object(),
    "accelerator_config": {"split_batches": True},
    "ddp_find_unused_parameters": True,
    "ddp_bucket_cap_mb": 25,
    "ddp_broadcast_buffers": True,
    "ddp_static_graph": True,
    "ddp_backend": "gloo",
    "save_on_each_node": True,
    "eval_use_gather_object": True,
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "neftune_noise_alpha": 0.1,
    "optim_target_modules": ["attn"],
    "debug": "underflow_overflow",
    "skip_memory_metrics": False,
}
"""A value other than the default for each."""


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_argument_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments(str(folder), **{name: OTHER[name]})
    assert f"TrainingArguments.{name} is " in str(caught.value)
    assert REFUSED[name] in str(caught.value)
    assert not folder.exists()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_the_default_of_a_refused_argument_runs(tmp_path: Path, name: str) -> None:
    default = TrainingArguments.__dataclass_fields__[name].default
    assert make(STEPBUS, tmp_path, max_steps=1, **{name: default}).train().global_step == 1


VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "optim": ({"optim": "adafactor"}, r"pass optimizers=\(optimizer, None\)"),
    "lr_scheduler_type": (
        {"lr_scheduler_type": "greedy"},
        r"pass optimizers=\(optimizer, scheduler\)",
    ),
    "train_sampling_strategy": (
        {"train_sampling_strategy": "batch_rebalance"},
        "choose group_by_length",
    ),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_is_not_obeyed_is_refused_with_what_to_do(name: str) -> None:
    arguments, said = VALUES[name]
    with pytest.raises(ArgumentError, match=f"{name} is .*{said}"):
        TrainingArguments("out", **arguments)


@pytest.mark.parametrize("name", sorted(FORMER_REFUSED))
def test_a_former_argument_is_refused_with_what_to_do(name: str) -> None:
    arguments: dict[str, Any] = {name: True}
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments("out", **arguments)
    assert str(caught.value) == f"TrainingArguments.{name} is True: {FORMER_REFUSED[name]}."


@pytest.mark.parametrize("name", sorted(FORMER_VALUES))
def test_a_former_argument_takes_its_default_alone(name: str) -> None:
    arguments: dict[str, Any] = {name: False if name == "save_safetensors" else "apex"}
    with (
        pytest.warns(FutureWarning, match=name),
        pytest.raises(ArgumentError, match=f"{name} is .*leave it out"),
    ):
        TrainingArguments("out", **arguments)
