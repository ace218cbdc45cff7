"""Training arguments as people use them: subclassed, replaced, assigned to, written down."""

import copy
import dataclasses
import json
import pickle
import typing
from dataclasses import InitVar, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import pydantic
import pytest
from pydantic import TypeAdapter, ValidationError

from stepbus.schemas import (
    ArgumentError,
    IntervalStrategy,
    TrainBegin,
    TrainingArguments,
    parse_event,
)


class Colour(Enum):
    RED = "red"


@dataclass
class ScriptArguments(TrainingArguments):
    block_size: int = 128
    colours: list[Colour] = field(default_factory=lambda: [Colour.RED])
    cache: Path = Path("cache")
    service_token: str | None = None


@dataclass
class Forgetful(TrainingArguments):
    doubled: float = 0.0

    def __post_init__(self) -> None:
        self.doubled = float(self.learning_rate) * 2


@dataclass
class WithInitVar(TrainingArguments):
    scale: InitVar[float] = 1.0

    def __post_init__(self, scale: float) -> None:
        self.learning_rate *= scale
        super().__post_init__()


@pydantic.dataclasses.dataclass
class Checked(TrainingArguments):
    block_size: int = 128
    tags: list[str] = dataclasses.field(default_factory=list, kw_only=True)


class Handwritten(TrainingArguments):
    def __init__(self, **settings: Any) -> None:
        super().__init__(output_dir=settings.pop("folder", "here"))
        self.settings = settings


SUBCLASSES: list[Any] = [TrainingArguments, ScriptArguments, Forgetful, WithInitVar, Checked]


def test_it_is_a_dataclass_that_is_neither_frozen_nor_a_model() -> None:
    args = TrainingArguments()
    assert dataclasses.is_dataclass(args)
    assert not isinstance(args, pydantic.BaseModel)
    args.learning_rate = 1.0
    assert args.learning_rate == 1.0


@pytest.mark.parametrize("kind", SUBCLASSES)
def test_inherited_arguments_are_checked_in_every_kind_of_subclass(kind: Any) -> None:
    message = rf"{kind.__name__}\.learning_rate is -1"
    with pytest.raises(ArgumentError, match=message):
        kind(learning_rate=-1)
    with pytest.raises(ArgumentError, match="save_strategy='best' saves after evaluations"):
        kind(save_strategy="best")
    with pytest.raises(ArgumentError, match=f"{kind.__name__} has no argument 'learning_rat': did"):
        kind(learning_rat=1)
    made = kind("out", eval_strategy="steps")
    assert made.output_dir == "out"
    assert made.eval_strategy is IntervalStrategy.STEPS
    assert made.eval_steps == 500


def test_text_for_a_number_fails_in_a_plain_subclass() -> None:
    with pytest.raises(ArgumentError, match=r"ScriptArguments\.learning_rate is 'abc': .*number"):
        ScriptArguments(learning_rate="abc")  # type: ignore[arg-type]


def test_a_subclass_has_fields_of_its_own() -> None:
    args = ScriptArguments("out", block_size=64, learning_rate=1e-3)
    assert (args.output_dir, args.block_size, args.learning_rate) == ("out", 64, 1e-3)
    with pytest.raises(ArgumentError, match="no argument 'block_siz': did you mean 'block_size'"):
        ScriptArguments(block_siz=64)  # type: ignore[call-arg]


def test_a_subclass_that_forgets_to_call_ours_is_checked_all_the_same() -> None:
    args = Forgetful(learning_rate=0.5, eval_strategy="epoch")
    assert args.doubled == 1.0
    assert args.eval_strategy is IntervalStrategy.EPOCH


def test_a_variable_for_the_constructor_alone_is_known() -> None:
    assert WithInitVar(learning_rate=0.5, scale=2.0).learning_rate == 1.0
    with pytest.raises(ArgumentError, match=r"learning_rate is -0\.5"):
        WithInitVar(learning_rate=0.5, scale=-1.0)


def test_a_pydantic_subclass_checks_its_own_fields_too() -> None:
    assert Checked(block_size="64", tags=["a"]).block_size == 64  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"Checked\.block_size is 'x': it should be a valid"):
        Checked(block_size="x")  # type: ignore[arg-type]


def test_a_required_argument_of_a_pydantic_subclass_is_asked_for() -> None:
    @pydantic.dataclasses.dataclass
    class Needs(TrainingArguments):
        corpus: str = dataclasses.field(kw_only=True)

    with pytest.raises(ArgumentError, match="Needs needs the argument 'corpus'"):
        Needs()  # type: ignore[call-arg]


def test_a_constructor_of_ones_own_keeps_its_arguments() -> None:
    args = Handwritten(folder="out", anything=3)
    assert args.output_dir == "out"
    assert args.settings == {"anything": 3}


@pytest.mark.parametrize("kind", SUBCLASSES[:3])
def test_replacing_checks_and_keeps_the_rest(kind: Any) -> None:
    args = kind("out", eval_strategy="epoch", report_to="wandb")
    other = dataclasses.replace(args, learning_rate=0.25)
    assert type(other) is kind
    assert (other.output_dir, other.learning_rate, other.report_to) == ("out", 0.25, ["wandb"])
    assert args.learning_rate == 5e-5
    with pytest.raises(ArgumentError, match="seed is -1"):
        dataclasses.replace(args, seed=-1)
    with pytest.raises(ArgumentError, match="no argument 'sede': did you mean 'seed'"):
        dataclasses.replace(args, sede=1)


def test_replacing_nothing_changes_nothing() -> None:
    args = TrainingArguments(
        "~/out",
        eval_strategy="steps",
        save_strategy="best",
        report_to="none",
        resume_from_checkpoint=True,  # type: ignore[arg-type]
        warmup_steps=0.1,
    )
    assert dataclasses.replace(args) == args


def test_what_is_assigned_is_checked_and_normalised_when_the_run_starts() -> None:
    args = ScriptArguments()
    args.eval_strategy = "steps"
    args.learning_rate = "1e-3"  # type: ignore[assignment]
    args.report_to = "wandb"
    args.validate()
    assert args.eval_strategy is IntervalStrategy.STEPS
    assert (args.eval_steps, args.learning_rate) == (500, 1e-3)
    assert args.trackers == ["wandb"]
    args.learning_rate = -1
    args.seed = -1
    with pytest.raises(ArgumentError, match=r"Arguments\.learning_rate is -1.*\.seed is -1"):
        args.validate()


def test_validating_twice_changes_nothing() -> None:
    args = ScriptArguments("~/out", eval_strategy="steps", report_to="none", save_strategy="best")
    before = dataclasses.asdict(args)
    args.validate()
    assert dataclasses.asdict(args) == before


def test_copies_and_pickles_are_equal_and_independent() -> None:
    args = ScriptArguments("out", report_to="wandb")
    for twin in (copy.deepcopy(args), pickle.loads(pickle.dumps(args))):
        assert twin == args
        typing.cast(list[str], twin.report_to).append("tensorboard")
        twin.seed = 1
        assert (args.report_to, args.seed) == (["wandb"], 42)


def test_a_dict_of_them_is_plain_with_tokens_masked() -> None:
    values = ScriptArguments("out", service_token="secret", eval_strategy="epoch").to_dict()
    assert values["service_token"] == "<SERVICE_TOKEN>"
    assert values["colours"] == ["red"]
    assert type(values["eval_strategy"]) is str
    assert next(iter(values)) == "output_dir"
    own = {f.name: values[f.name] for f in dataclasses.fields(TrainingArguments)}
    assert TrainingArguments(**own).to_dict() == own


def test_the_json_of_them_has_no_secret() -> None:
    text = ScriptArguments("out", service_token="secret").to_json_string()
    assert "secret" not in text
    assert text.startswith('{\n  "output_dir": "out",\n')
    assert json.loads(text)["cache"] == "cache"


def test_the_sanitized_dict_has_numbers_and_text_alone() -> None:
    values = ScriptArguments("out", report_to=["wandb"], per_device_eval_batch_size=2)
    sanitized = values.to_sanitized_dict()
    assert {type(value) for value in sanitized.values()} <= {bool, int, float, str}
    assert sanitized["report_to"] == "['wandb']"
    assert sanitized["data_seed"] == "None"
    assert (sanitized["train_batch_size"], sanitized["eval_batch_size"]) == (8, 2)


def test_the_frozen_copy_is_read_only_masked_and_goes_into_an_event() -> None:
    args = ScriptArguments("out", service_token="secret", report_to=["wandb"])
    frozen = args.frozen_copy()
    with pytest.raises(TypeError, match="make a copy first"):
        frozen["seed"] = 1
    args.seed = 7
    assert args.report_to == ["wandb"]
    assert isinstance(args.report_to, list)
    args.report_to.append("tensorboard")
    assert (frozen["seed"], frozen["report_to"]) == (42, ("wandb",))
    event = TrainBegin(arguments=frozen)
    assert b"secret" not in event.to_json()
    assert parse_event(event.to_json()) == event
    assert event.arguments == frozen


def test_a_parser_of_transformers_shape_finds_one_type_for_every_field() -> None:
    hints = typing.get_type_hints(TrainingArguments)
    for argument in dataclasses.fields(TrainingArguments):
        kinds = typing.get_args(hints[argument.name]) or (hints[argument.name],)
        plain = [kind for kind in kinds if kind is not type(None)]
        assert len(plain) == 1 or str in plain, argument.name


def test_a_command_line_can_build_them_from_plain_values() -> None:
    adapter = TypeAdapter(TrainingArguments)
    args = adapter.validate_python({"output_dir": "out", "max_steps": "10", "bf16": "true"})
    assert (args.max_steps, args.bf16) == (10, True)
    with pytest.raises(ValidationError, match="learning_rat"):
        adapter.validate_python({"learning_rat": 1})
    schema = adapter.json_schema()
    assert schema["properties"]["seed"]["description"].startswith("Seed of weights")
