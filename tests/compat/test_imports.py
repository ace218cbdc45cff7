"""The names that scripts import, beside those of the reference."""

from __future__ import annotations

import importlib
import inspect
import random
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import stepbus
import stepbus.integrations
from tests.compat.pairs import make
from tests.differential.libraries import STEPBUS

IMPORTED = """
Trainer TrainingArguments TrainerCallback TrainerState TrainerControl DefaultFlowCallback
PrinterCallback ProgressCallback EarlyStoppingCallback TensorBoardCallback EvalPrediction
PredictionOutput EvalLoopOutput TrainOutput IntervalStrategy SaveStrategy SchedulerType
get_scheduler get_last_checkpoint set_seed enable_full_determinism default_data_collator
DefaultDataCollator
AzureMLCallback ClearMLCallback CodeCarbonCallback CometCallback DVCLiveCallback DagsHubCallback
FlyteCallback KubeflowCallback MLflowCallback SwanLabCallback TrackioCallback WandbCallback
""".split()
HOMES = ("", ".trainer_utils", ".trainer_callback", ".integrations")
RENAMED: dict[str, dict[str, str]] = {}
"""Parameters that go by another name."""
TRACKERS = """
AzureMLCallback ClearMLCallback CodeCarbonCallback CometCallback DVCLiveCallback DagsHubCallback
FlyteCallback KubeflowCallback MLflowCallback SwanLabCallback TensorBoardCallback TrackioCallback
WandbCallback
""".split()


def theirs(name: str) -> Any:
    """What the reference has under a name."""
    for home in HOMES:
        module = importlib.import_module(f"transformers{home}")
        if hasattr(module, name):
            return getattr(module, name)
    raise AssertionError(f"the reference has no {name}")


@pytest.mark.parametrize("name", IMPORTED)
def test_a_name_is_of_the_kind_that_it_is_there(name: str) -> None:
    assert name in stepbus.__all__
    ours, reference = getattr(stepbus, name), theirs(name)
    assert inspect.isclass(ours) == inspect.isclass(reference)
    assert ours.__name__ == reference.__name__
    assert callable(ours)


@pytest.mark.parametrize("name", IMPORTED)
def test_it_takes_what_it_takes_there_in_the_same_order(name: str) -> None:
    ours, reference = (
        [
            p
            for p in inspect.signature(found).parameters.values()
            if not p.name.startswith("_") and p.kind is not p.VAR_KEYWORD
        ]
        for found in (getattr(stepbus, name), theirs(name))
    )
    new = RENAMED.get(name, {})
    wanted = [new.get(parameter.name, parameter.name) for parameter in reference]
    taken = {parameter.name: parameter for parameter in ours}
    assert set(wanted) <= taken.keys()
    by_position = [p.name for p in ours if p.kind is not p.KEYWORD_ONLY]
    if name != "TrainingArguments":  # which takes its folder alone by position
        assert by_position[: len(wanted)] == wanted[: len(by_position)]
    assert by_position[0] == wanted[0] if wanted and by_position else True


@pytest.mark.parametrize(
    "name", [name for name in IMPORTED if name.endswith(("Strategy", "SchedulerType"))]
)
def test_an_enum_has_the_values_of_the_reference_that_are_obeyed(name: str) -> None:
    ours, reference = getattr(stepbus, name), theirs(name)
    assert issubclass(ours, Enum)
    values = {member.name: member.value for member in ours}
    wanted = {member.name: member.value for member in reference}
    assert values == {key: value for key, value in wanted.items() if value != "greedy"}
    assert all(member == wanted[member.name] for member in ours)


@pytest.mark.parametrize("name", [name for name in IMPORTED if name.endswith("Callback")])
def test_a_callback_has_the_hooks_of_the_reference(name: str) -> None:
    ours, reference = getattr(stepbus, name), theirs(name)
    hooks = {hook for hook in dir(reference) if hook.startswith("on_")}
    assert hooks <= set(dir(ours))
    assert issubclass(ours, stepbus.TrainerCallback)


@pytest.mark.parametrize("name", ["set_seed", "enable_full_determinism"])
def test_seeds_are_the_reference_s(name: str, isolated: None) -> None:
    drawn = []
    for function in (theirs(name), getattr(stepbus, name)):
        function(11)
        drawn.append((random.random(), float(np.random.rand()), torch.rand(3).tolist()))
        torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    assert drawn[0] == drawn[1]


def test_the_last_checkpoint_is_found_as_there(tmp_path: Path) -> None:
    find = stepbus.get_last_checkpoint, theirs("get_last_checkpoint")
    tmp_path.joinpath("stepbus").mkdir()
    folder = str(tmp_path / "stepbus")
    assert [function(folder) for function in find] == [None, None]
    make(STEPBUS, tmp_path, save_strategy="epoch").train()
    assert [function(folder) for function in find] == [str(Path(folder) / "checkpoint-6")] * 2


@pytest.mark.parametrize("name", ["AutoTokenizer", "AutoModelForCausalLM", "pipeline"])
def test_a_name_that_stays_there_is_answered_with_where_it_stays(name: str) -> None:
    said = f"stepbus has no {name}: models, tokenizers and collators stay in transformers."
    with pytest.raises(ImportError) as imported:
        exec(f"from stepbus import {name}")
    with pytest.raises(AttributeError) as read:
        getattr(stepbus, name)
    assert str(imported.value) == str(read.value) == said


@pytest.mark.parametrize("name", ["Seq2SeqTrainer", "Seq2SeqTrainingArguments"])
def test_training_with_generation_is_refused_with_the_bridge(name: str) -> None:
    with pytest.raises(
        ImportError, match=rf"stepbus has no {name}: .*callbacks=\[TransformersBridge\(bus\)\]"
    ):
        exec(f"from stepbus import {name}")


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_s_callback_is_in_integrations_too(name: str) -> None:
    assert getattr(stepbus.integrations, name) is getattr(stepbus, name)
    assert name in dir(stepbus.integrations)


def test_every_tracker_that_there_is_is_in_integrations() -> None:
    found: dict[str, Any] = {name: getattr(stepbus, name) for name in stepbus.__all__}
    callbacks = {name for name, value in found.items() if getattr(value, "tracker_name", None)}
    assert callbacks == set(TRACKERS) == set(stepbus.integrations.__all__)


def test_every_tracker_of_the_reference_is_there() -> None:
    module = importlib.import_module("transformers.integrations.integration_utils")
    base = importlib.import_module("transformers").TrainerCallback
    found = {
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value.__module__ == module.__name__
    }
    assert found == {*TRACKERS, "NeptuneCallback"}


@pytest.mark.parametrize("home", ["stepbus", "stepbus.integrations"])
def test_the_callback_of_a_service_that_closed_is_refused_with_the_reason(home: str) -> None:
    with pytest.raises(ImportError, match="no NeptuneCallback: the service closed in March 2026"):
        exec(f"from {home} import NeptuneCallback")


def test_all_else_stays_in_the_reference_s_integrations() -> None:
    with pytest.raises(AttributeError, match=r"all else stays in transformers\.integrations"):
        _ = stepbus.integrations.is_wandb_available  # type: ignore[attr-defined]
