"""The front door: the public names, and that each is what its room says."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import stepbus
import stepbus.integrations

PUBLIC = """
AnyEvent ArgumentError Artifact AzureMLCallback BatchSizeRetry BusClosedError CSVHistory
CheckpointError
ClearMLCallback CodeCarbonCallback CometCallback DVCLiveCallback DagsHubCallback DataError
DefaultDataCollator DefaultFlowCallback DeliveryError EarlyStoppingCallback EpochBegin EpochEnd
EvalLoopOutput EvalPrediction Evaluate Event EventBus EventStream EventsGoneError
ExperimentRun ExperimentTracker Filter FlyteCallback Histogram HubCallback InitEnd
IntervalStrategy JSONLHistory KubeflowCallback Lease Ledger LedgerRow LightningBridge Log
LossCurve
MLflowCallback Measured NonFinite
OptimizerStep
OptimizerStepSkipped PreOptimizerStep Predict PredictionOutput PredictionStep PrinterCallback
ProgressCallback PushBegin Resumed RunCost RunFailed RunStatus RunSummary Save SaveStrategy
SchedulerType Stalled StepBegin StepEnd StepbusError StructuredLog Subscriber SubscriberBehind
SubscriberFailed SubstepEnd SwanLabCallback TensorBoardCallback TrackioCallback
TrainBegin TrainEnd TrainOutput Trainer
TrainerCallback
TrainerControl TrainerState TrainingArguments TrainingEvent TrainingRun TransformersBridge
UnknownEvent UnreachableError UploadCallback Verdict Vote VotePolicy WandbCallback
WebhookCallback __version__
default_data_collator download_checkpoint
enable_full_determinism get_last_checkpoint get_scheduler latest_upload on parse_event run_async
set_seed upload_checkpoint
""".split()


def test_public_names_are_these_and_no_others() -> None:
    assert sorted(stepbus.__all__) == PUBLIC


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "__version__"])
def test_each_public_name_is_the_object_of_its_room(name: str) -> None:
    value = getattr(stepbus, name)
    room = next(room for room, names in stepbus._ROOMS.items() if name in names)
    assert value is getattr(importlib.import_module(f"stepbus.{room}"), name)


def test_what_a_type_checker_sees_is_what_is_found_late() -> None:
    tree = ast.parse(Path(stepbus.__file__).read_text(encoding="utf-8"))
    imported = {
        (str(node.module), alias.name)
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert imported == {(room, name) for room, names in stepbus._ROOMS.items() for name in names}


def test_a_name_of_transformers_is_answered_with_where_it_stays() -> None:
    with pytest.raises(AttributeError, match="stay in transformers"):
        stepbus.AutoTokenizer  # type: ignore[attr-defined]  # noqa: B018


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(AttributeError, match="did you mean TrainingArguments"):
        stepbus.TrainingArgument  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("from stepbus import AutoTokenizer", "stepbus has no AutoTokenizer: models, tokenizers"),
        ("from stepbus import Trainer, AutoModel", "stepbus has no AutoModel: models, tokenizers"),
        ("from stepbus import Seq2SeqTrainer", "callbacks=.TransformersBridge"),
        ("from stepbus import NeptuneCallback", "stepbus has no NeptuneCallback: the service"),
        (
            "from stepbus.integrations import Callback",
            "it has .*TensorBoardCallback, .*and all else",
        ),
    ],
)
def test_the_answer_is_that_of_the_import_too(line: str, said: str) -> None:
    with pytest.raises(ImportError, match=said):
        exec(line)


def test_asking_whether_there_is_a_name_is_no_error() -> None:
    assert not hasattr(stepbus, "AutoTokenizer")
    assert getattr(stepbus.integrations, "AutoTokenizer", None) is None


def test_submodules_that_were_not_loaded_yet_are_imported_from_the_package() -> None:
    program = (
        "from stepbus import cli, integrations, schemas, testing; print(integrations.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == "stepbus.integrations\n"


def test_callbacks_of_trackers_are_found_in_integrations_too() -> None:
    assert {"TensorBoardCallback", "WandbCallback"} <= set(stepbus.integrations.__all__)
    for name in stepbus.integrations.__all__:
        assert getattr(stepbus.integrations, name) is getattr(stepbus, name)
    assert dir(stepbus.integrations) == stepbus.integrations.__all__


def test_dir_lists_the_public_names() -> None:
    assert set(PUBLIC) <= set(dir(stepbus))
