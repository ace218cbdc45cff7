"""Which names of transformers are stepbus's, which have no place here, and why."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ... import __all__ as _public

TRACKER_CALLBACKS: Mapping[str, str] = MappingProxyType(
    {
        "AzureMLCallback": "azure_ml",
        "ClearMLCallback": "clearml",
        "CodeCarbonCallback": "codecarbon",
        "CometCallback": "comet_ml",
        "DagsHubCallback": "dagshub",
        "DVCLiveCallback": "dvclive",
        "FlyteCallback": "flyte",
        "KubeflowCallback": "kubeflow",
        "MLflowCallback": "mlflow",
        "NeptuneCallback": "neptune",
        "SwanLabCallback": "swanlab",
        "TensorBoardCallback": "tensorboard",
        "TrackioCallback": "trackio",
        "WandbCallback": "wandb",
    }
)
"""The reference's callbacks of trackers, with the names that `report_to` has for them."""

CALLBACKS = frozenset(
    {
        "DefaultFlowCallback",
        "EarlyStoppingCallback",
        "PrinterCallback",
        "ProgressCallback",
        "TrainerCallback",
        *TRACKER_CALLBACKS,
    }
)
"""What a callback may derive from."""

MOVES = frozenset(
    """
    Trainer TrainingArguments TrainerCallback TrainerState TrainerControl DefaultFlowCallback
    PrinterCallback ProgressCallback EarlyStoppingCallback EvalPrediction PredictionOutput
    EvalLoopOutput TrainOutput IntervalStrategy SaveStrategy SchedulerType get_scheduler
    get_last_checkpoint set_seed enable_full_determinism default_data_collator DefaultDataCollator
    """.split()
) | (TRACKER_CALLBACKS.keys() & set(_public))
"""Names that a script imports from stepbus instead."""

_BRIDGE = (
    "keep transformers' own trainer for it and put the bus behind that with the bridge, "
    "a callback for transformers' trainers"
)
_NO_SEARCH = "stepbus searches no hyperparameters: make one Trainer for each trial"
_NOT_YET = "stepbus has no callback of this tracker yet"

REFUSED_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "Seq2SeqTrainer": _BRIDGE,
        "Seq2SeqTrainingArguments": _BRIDGE,
        "HPSearchBackend": _NO_SEARCH,
        "BestRun": _NO_SEARCH,
        "default_compute_objective": _NO_SEARCH,
        "default_hp_space_optuna": _NO_SEARCH,
        "default_hp_space_ray": _NO_SEARCH,
        "default_hp_space_wandb": _NO_SEARCH,
        "CallbackHandler": "the bus calls the callbacks: use add_callback",
        "JITCheckpointCallback": "a SIGTERM saves without it: leave it out",
        "NotebookProgressCallback": "ProgressCallback draws in notebooks too: leave it out",
        "EvaluationStrategy": "version 5 has IntervalStrategy instead, and so has stepbus",
        "AcceleratorConfig": "stepbus does not use accelerate: leave accelerator_config out",
        "HfDeepSpeedConfig": "stepbus trains in one process: it has no DeepSpeed",
        "FSDPOption": "stepbus trains in one process: it has no FSDP",
        "ShardedDDPOption": "stepbus trains in one process: it shards nothing",
        **dict.fromkeys(sorted(TRACKER_CALLBACKS.keys() - set(_public)), _NOT_YET),
    }
)
"""Names of transformers that cannot be used with stepbus's `Trainer`, with what to do."""

DERIVED_FROM = frozenset(
    {"trl", "sentence_transformers", "setfit", "adapters", "optimum", "unsloth"}
)
"""Packages whose trainers derive from transformers' own."""


def is_foreign(origin: str) -> bool:
    """Whether a dotted name is a trainer, or its arguments, that needs transformers' own."""
    root, _, name = origin.rpartition(".")
    if name.startswith("Seq2SeqTrain"):
        return True
    package = root.partition(".")[0]
    ends = ("Trainer", "TrainingArguments", *(["Config"] if package == "trl" else []))
    return package in DERIVED_FROM and name.endswith(ends)


def why_refused(name: str, package: str = "transformers") -> str | None:
    """Why a name cannot be used, or None when it can."""
    if package in DERIVED_FROM:
        return f"it derives from transformers' Trainer: {_BRIDGE}"
    return REFUSED_NAMES.get(name)
