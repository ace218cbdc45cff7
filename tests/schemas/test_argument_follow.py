"""What follows from training arguments: older names, properties, the forms they are written in."""

import copy
import dataclasses
import logging
import pickle
import subprocess
import sys
import warnings
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest

from stepbus.schemas import ArgumentError, TrainingArguments
from stepbus.schemas.machine import ParallelMode

CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"fp16": True, "bf16": True}, "fp16 and bf16 are both True: choose one"),
    (
        {"fp16_full_eval": True, "bf16_full_eval": True},
        "fp16_full_eval and bf16_full_eval are both True",
    ),
    (
        {"lr_scheduler_type": "reduce_lr_on_plateau"},
        "but eval_strategy is 'no': set eval_strategy to 'steps' or 'epoch'",
    ),
    (
        {"dataloader_prefetch_factor": 4},
        "dataloader_prefetch_factor is 4, but dataloader_num_workers is 0",
    ),
    (
        {"dataloader_persistent_workers": True},
        "dataloader_persistent_workers is True, but dataloader_num_workers is 0",
    ),
]


@dataclass
class Script(TrainingArguments):
    service_token: str = "very-secret"
    model_init_kwargs: dict[str, Any] = field(default_factory=dict)


class Dtype(Enum):
    HALF = 1

    def __str__(self) -> str:
        return "torch.float16"


@pytest.mark.parametrize(("arguments", "message"), CONTRADICTIONS)
def test_a_contradiction_is_one_clear_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments(**arguments)
    assert message in str(caught.value)


def test_plateaus_need_a_metric_and_get_the_loss() -> None:
    args = TrainingArguments(lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="epoch")
    assert (args.metric_for_best_model, args.greater_is_better) == ("loss", False)


def test_evaluation_is_on_where_it_has_a_strategy() -> None:
    assert TrainingArguments(eval_strategy="epoch").do_eval is True
    assert TrainingArguments(do_eval=True).eval_strategy == "no"


@pytest.mark.parametrize(
    ("arguments", "backend"),
    [
        ({}, None),
        ({"torch_compile": True}, "inductor"),
        ({"torch_compile_mode": "default"}, "inductor"),
        ({"torch_compile_backend": "eager"}, "eager"),
    ],
)
def test_a_backend_or_a_mode_means_compiling(arguments: dict[str, Any], backend: str) -> None:
    args = TrainingArguments(**arguments)
    assert (args.torch_compile, args.torch_compile_backend) == (bool(arguments), backend)


def test_memory_is_not_pinned_for_the_cpu() -> None:
    assert TrainingArguments(use_cpu=True).dataloader_pin_memory is False
    assert TrainingArguments().dataloader_pin_memory is True


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("gradient_checkpointing", "activation_checkpointing", True),
        ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs", {"a": 1}),
        ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs", '{"a": "1"}'),
    ],
)
def test_the_older_and_the_newer_name_of_checkpointing_mirror_each_other(
    old: str, new: str, value: Any
) -> None:
    with pytest.warns(FutureWarning, match=f"{old} is the older name: write {new}") as told:
        args = TrainingArguments(**{old: value})
    assert len(told) == 1
    expected = {"a": 1} if isinstance(value, str) else value
    assert (getattr(args, old), getattr(args, new)) == (expected, expected)
    newer = TrainingArguments(**{new: value})
    assert (getattr(newer, old), getattr(newer, new)) == (expected, expected)
    for twin in (dataclasses.replace(args), copy.deepcopy(args), pickle.loads(pickle.dumps(args))):
        assert twin == args == newer
    if value is True:
        off = dataclasses.replace(args, activation_checkpointing=False)
        assert (getattr(off, old), getattr(off, new)) == (False, False)


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
def test_whichever_name_of_checkpointing_is_assigned_counts(name: str) -> None:
    args = TrainingArguments()
    for value in (True, False, True):
        setattr(args, name, value)
        args.validate()
        assert (args.gradient_checkpointing, args.activation_checkpointing) == (value, value)
    setattr(args, name, None)
    args.validate()
    assert (args.gradient_checkpointing, args.activation_checkpointing) == (False, False)


def test_setters_follow_one_another_and_check_what_they_set() -> None:
    args = TrainingArguments("out", load_best_model_at_end=True, save_strategy="best",
                             eval_strategy="epoch")  # fmt: skip
    assert args.set_save("steps", 6).set_evaluate("steps", 3).set_training(seed=5) is args
    args.validate()
    assert (args.save_steps, args.eval_steps, args.seed, args.do_train) == (6, 3, 5, True)
    assert type(args.set_lr_scheduler("cosine").lr_scheduler_type).__name__ == "SchedulerType"
    with pytest.raises(ArgumentError, match=r"learning_rate is 'abc'.*seed is -1"):
        args.set_training(learning_rate="abc", seed=-1)  # type: ignore[arg-type]
    assert (args.learning_rate, args.seed) == (5e-5, 5)
    for method in ("set_save", "set_evaluate", "set_logging"):
        with pytest.raises(ArgumentError, match=f"{method} got steps=0 with strategy='steps'"):
            getattr(args, method)("steps", 0)
    with pytest.warns(FutureWarning, match="write activation_checkpointing"):
        args.set_training(gradient_checkpointing=True)
    args.validate()
    assert (args.gradient_checkpointing, args.activation_checkpointing) == (True, True)


def test_one_process_answers_for_all() -> None:
    args = TrainingArguments("out", use_cpu=True, ddp_timeout=60, bf16=True)
    assert (args.world_size, args.process_index, args.local_process_index) == (1, 0, 0)
    assert (args.should_log, args.should_save, args.place_model_on_device) == (True, True, None)
    assert (args.ddp_timeout_delta, args.mixed_precision) == (timedelta(minutes=1), "bf16")
    assert (str(args.device), args.n_gpu) == ("cpu", 0)
    assert args.parallel_mode is ParallelMode.NOT_PARALLEL
    assert hash(args.parallel_mode) == hash("not_parallel")
    with args.main_process_first(local=False, desc="tokenizing"):
        pass
    with pytest.raises(KeyError), args.main_process_first():
        raise KeyError


def test_the_log_level_is_that_of_the_arguments_or_of_transformers() -> None:
    assert TrainingArguments(log_level="debug").get_process_log_level() == logging.DEBUG
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        assert TrainingArguments().get_process_log_level() == logging.INFO
    finally:
        logger.setLevel(before)


def test_making_and_asking_arguments_does_not_load_torch() -> None:
    program = (
        "import sys\n"
        "import stepbus.schemas as s\n"
        "args = s.TrainingArguments('out', torch_compile=True, fp16=True)\n"
        "args.to_json_string(), args.train_batch_size, args.parallel_mode, str(args)\n"
        "args.set_dataloader().get_process_log_level()\n"
        "assert not {'torch', 'transformers', 'numpy'} & sys.modules.keys()\n"
        "print(args.device)\n"
        "assert 'torch' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("cpu", "mps", "cuda:0")


def test_text_dict_json_and_events_hide_tokens_in_subclasses_too() -> None:
    args = Script("out")
    forms = [str(args), repr(args), f"{args}", str(args.to_dict()), args.to_json_string(),
             str(args.to_sanitized_dict()), str(args.frozen_copy())]  # fmt: skip
    for form in forms:
        assert "very-secret" not in form
        assert "<SERVICE_TOKEN>" in form
    assert str(args).startswith("Script(\naccelerator_config=None,\n")
    with pytest.raises(ArgumentError) as caught:
        Script("out", learning_rate=-1, service_token="other-secret")
    assert "secret" not in str(caught.value)


def test_dtypes_are_written_by_name() -> None:
    args = Script("out", model_init_kwargs={"dtype": Dtype.HALF, "deep": {"dtype": None}})
    written = args.to_dict()["model_init_kwargs"]
    assert written == {"dtype": "float16", "deep": {"dtype": None}}
    assert args.model_init_kwargs["dtype"] is Dtype.HALF


def test_copying_and_replacing_warn_of_nothing() -> None:
    args = TrainingArguments("out", activation_checkpointing=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dataclasses.replace(args, activation_checkpointing=False) == TrainingArguments("out")
        assert copy.deepcopy(args) == args
        assert pickle.loads(pickle.dumps(args)).device == args.device
