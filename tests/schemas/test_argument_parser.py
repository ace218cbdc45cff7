"""Training arguments from a command line, a dict and a file, by transformers' own parser."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pydantic
import pytest

from stepbus.schemas import ArgumentError, TrainingArguments
from stepbus.schemas.argument_names import FORMER, SUPPORTED


@dataclass
class Script(TrainingArguments):
    block_size: int = 128
    freeze: bool = True
    tags: list[str] = field(default_factory=list)


@dataclass
class Model:
    name: str = "gpt2"
    use_fast: bool = True


def parser_of(*kinds: Any) -> Any:
    return import_module("transformers").HfArgumentParser(kinds)


FLAGS: list[tuple[str, dict[str, Any]]] = [
    ("--output_dir out", {"output_dir": "out"}),
    ("--learning_rate 1e-3 --num-train-epochs 2", {"learning_rate": 1e-3, "num_train_epochs": 2}),
    ("--per_device_train_batch_size 4 --max_steps 3", {"max_steps": 3}),
    ("--bf16", {"bf16": True}),
    ("--bf16 False --fp16 true", {"bf16": False, "fp16": True}),
    ("--no_dataloader_pin_memory", {"dataloader_pin_memory": False}),
    ("--remove_unused_columns False", {"remove_unused_columns": False}),
    ("--eval_strategy epoch --save-strategy best", {"eval_strategy": "epoch"}),
    ("--eval_strategy steps --eval_steps 0.5", {"eval_steps": 0.5}),
    ("--optim sgd --optim_args momentum=0.9", {"optim": "sgd", "optim_args": "momentum=0.9"}),
    ("--lr_scheduler_type cosine", {"lr_scheduler_type": "cosine"}),
    ('--lr_scheduler_kwargs {"num_cycles":2}', {"lr_scheduler_kwargs": {"num_cycles": 2}}),
    ("--activation_checkpointing", {"gradient_checkpointing": True}),
    ("--tf32 --disable_tqdm True", {"tf32": True, "disable_tqdm": True}),
    ("--include_for_metrics inputs loss", {"include_for_metrics": ["inputs", "loss"]}),
    ("--label_names labels", {"label_names": ["labels"]}),
    ("--include_num_input_tokens_seen", {"include_num_input_tokens_seen": "all"}),
    ("--include_num_input_tokens_seen True", {"include_num_input_tokens_seen": "all"}),
    (
        "--include_num_input_tokens_seen non_padding",
        {"include_num_input_tokens_seen": "non_padding"},
    ),
    ("--report_to wandb", {"report_to": ["wandb"]}),
    ("--save_total_limit 2 --seed 7 --data_seed 8", {"save_total_limit": 2, "data_seed": 8}),
    ("--greater_is_better False", {"greater_is_better": False}),
    ("--resume_from_checkpoint out/checkpoint-5", {"resume_from_checkpoint": "out/checkpoint-5"}),
    ("--train_sampling_strategy group_by_length", {"train_sampling_strategy": "group_by_length"}),
    ("--torch_compile_mode default", {"torch_compile": True}),
    ("--local_rank 0 --warmup_steps 0.1", {"local_rank": 0, "warmup_steps": 0.1}),
    ("--logging_dir logs", {"logging_dir": "logs"}),
    ("--drain_timeout_s 5", {"drain_timeout_s": 5}),
    ("--push_to_hub --hub_private_repo", {"push_to_hub": True, "hub_private_repo": True}),
    ("--hub_model_id me/model --hub_strategy end", {"hub_strategy": "end"}),
]


@pytest.mark.parametrize(("line", "expected"), FLAGS)
def test_a_flag_sets_its_argument(line: str, expected: dict[str, Any]) -> None:
    (args,) = parser_of(TrainingArguments).parse_args_into_dataclasses(line.split())
    assert {name: getattr(args, name) for name in expected} == expected


def test_no_flags_give_the_defaults() -> None:
    (args,) = parser_of(TrainingArguments).parse_args_into_dataclasses([])
    assert args == TrainingArguments()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--deepspeed ds.json", r"deepspeed is 'ds\.json': stepbus shards no model"),
        ("--push_to_hub --hub_token very-secret --hub_model_id a..b", r"hub_model_id is 'a\.\.b'"),
        ("--optim adafactor", r"pass optimizers=\(optimizer, None\)"),
        ("--fsdp full_shard", "fsdp is 'full_shard'"),
        ("--ddp_find_unused_parameters False", "ddp_find_unused_parameters is False"),
        ("--debug underflow_overflow", "debug is"),
        ("--learning_rate nan", "learning_rate is nan"),
        ("--train_sampling_strategy batch_rebalance", "choose group_by_length"),
    ],
)
def test_a_flag_is_refused_with_our_words(line: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        parser_of(TrainingArguments).parse_args_into_dataclasses(line.split())
    assert "very-secret" not in str(caught.value)


def test_a_subclass_is_parsed_together_with_another_dataclass() -> None:
    model, args = parser_of(Model, Script).parse_args_into_dataclasses(
        "--name bert --no_use_fast --block_size 64 --no_freeze --tags a b --max_steps 5".split()
    )
    assert model == Model("bert", False)
    assert type(args) is Script
    assert (args.block_size, args.freeze, args.tags, args.max_steps) == (64, False, ["a", "b"], 5)


def test_a_dict_and_a_file_are_parsed(tmp_path: Path) -> None:
    values = {"output_dir": "out", "eval_strategy": "epoch", "lr_scheduler_kwargs": {"a": 1}}
    parser = parser_of(TrainingArguments)
    (args,) = parser.parse_dict(values)
    assert (args.eval_strategy, args.lr_scheduler_kwargs) == ("epoch", {"a": 1})
    file = tmp_path / "args.json"
    file.write_text(args.to_json_string())
    (again,) = parser.parse_json_file(str(file))
    assert again == args
    file.write_text(json.dumps({"output_dir": "out", "warmup_steps": 0.5, "report_to": ["a"]}))
    (other,) = parser.parse_json_file(str(file))
    assert (other.warmup_steps, other.report_to) == (0.5, ["a"])


def test_the_help_names_every_argument_and_says_what_it_is() -> None:
    text = parser_of(TrainingArguments).format_help()
    assert [name for name in SUPPORTED if f"--{name} " not in text] == []
    assert "--deepspeed " in text
    assert "Seed of weights" in text
    assert [name for name in FORMER if f"--{name} " in text] == [
        "logging_dir",
        "overwrite_output_dir",
    ]


def test_a_class_made_after_parsing_knows_the_kinds_as_they_were_declared() -> None:
    parser_of(TrainingArguments)
    parser_of(Script)

    @pydantic.dataclasses.dataclass
    class Later(TrainingArguments):
        block_size: int = 1

    args = Later(lr_scheduler_kwargs={"a": 1}, report_to=["wandb"], eval_strategy="epoch")
    assert (args.lr_scheduler_kwargs, args.report_to) == ({"a": 1}, ["wandb"])
    with pytest.raises(ArgumentError, match=r"Later\.learning_rate is -1"):
        Later(learning_rate=-1)
    with pytest.raises(ArgumentError, match=r"Later\.eval_strategy is 'often'"):
        Later(eval_strategy="often")
