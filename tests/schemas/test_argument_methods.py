"""The methods and properties of training arguments beside those of the installed transformers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from stepbus.schemas import TrainingArguments
from stepbus.schemas.argument_names import REFUSED, SUPPORTED

LISTED = sorted(SUPPORTED | set(REFUSED))

SETTERS: list[tuple[str, dict[str, Any]]] = [
    ("set_training", {}),
    ("set_training", {"learning_rate": 1e-4, "batch_size": 2, "activation_checkpointing": True}),
    ("set_evaluate", {}),
    ("set_evaluate", {"strategy": "steps", "steps": 10, "delay": 2, "loss_only": True}),
    ("set_testing", {"batch_size": 3}),
    ("set_save", {"strategy": "steps", "steps": 3, "total_limit": 2}),
    ("set_logging", {}),
    ("set_logging", {"strategy": "epoch", "level": "info", "first_step": True}),
    ("set_optimizer", {}),
    ("set_optimizer", {"name": "sgd", "beta1": 0.5, "args": "momentum=0.9"}),
    ("set_lr_scheduler", {"name": "cosine", "warmup_steps": 0.05, "max_steps": 9}),
    ("set_dataloader", {}),
    ("set_dataloader", {"train_batch_size": 2, "num_workers": 1, "sampler_seed": 3}),
]


@functools.cache
def reference() -> Any:
    """The reference's class, loaded late: it takes seconds."""
    return import_module("transformers").TrainingArguments


def both(arguments: dict[str, Any]) -> tuple[Any, Any]:
    return TrainingArguments(**arguments), reference()(**{"report_to": "none", **arguments})


def settled(value: Any) -> Any:
    return getattr(value, "value", value)


@pytest.mark.parametrize(("method", "arguments"), SETTERS)
def test_a_setter_sets_what_it_sets_in_the_reference(
    method: str, arguments: dict[str, Any]
) -> None:
    ours, theirs = both({"num_train_epochs": 5, "seed": 3})
    assert getattr(ours, method)(**arguments) is ours
    getattr(theirs, method)(**arguments)
    for name in set(LISTED) - {"report_to", "accelerator_config", "debug", "eval_delay"}:
        assert settled(getattr(ours, name)) == settled(getattr(theirs, name)), name
    assert ours.eval_delay == (theirs.eval_delay or 0)
    if method == "set_logging":
        assert ours.report_to == []
    ours.validate()


def test_the_setters_have_the_signatures_of_the_reference() -> None:
    names = [name for name in dir(reference()) if name.startswith("set_")]
    assert len(names) == 9
    for name in names:
        theirs = inspect.signature(getattr(reference(), name)).parameters
        ours = inspect.signature(getattr(TrainingArguments, name)).parameters
        assert list(ours) == list(theirs)
        for parameter in theirs:
            default = settled(theirs[parameter].default)
            assert settled(ours[parameter].default) == default, (name, parameter)


PROPERTIES: list[Callable[[Any], Any]] = [
    lambda args: args.device,
    lambda args: args.n_gpu,
    lambda args: args.world_size,
    lambda args: args.process_index,
    lambda args: args.local_process_index,
    lambda args: args.parallel_mode,
    lambda args: args.train_batch_size,
    lambda args: args.eval_batch_size,
    lambda args: args.should_log,
    lambda args: args.should_save,
    lambda args: args.place_model_on_device,
    lambda args: args.ddp_timeout_delta,
    lambda args: args.mixed_precision,
    lambda args: args.get_process_log_level(),
    lambda args: args.get_warmup_steps(1010),
]


@pytest.mark.parametrize("index", range(len(PROPERTIES)))
@pytest.mark.parametrize(
    "arguments",
    [{}, {"use_cpu": True, "fp16": True, "log_level": "error", "warmup_steps": 0.05}],
)
def test_a_property_is_that_of_the_reference(index: int, arguments: dict[str, Any]) -> None:
    ours, theirs = both({"ddp_timeout": 60, **arguments})
    if theirs.n_gpu > 1:
        pytest.skip("the reference spreads a run over all GPUs, stepbus takes the first")
    read = PROPERTIES[index]
    assert read(ours) == read(theirs)
    assert read(theirs) == read(ours)
