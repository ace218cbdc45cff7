"""stepbus: the training step says what happened and goes on; everyone else listens.

The public names are those of `__all__`. Each is imported when it is first used, so that
`import stepbus` loads neither torch nor a tracker.
"""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from .late_names import no_such_name

if TYPE_CHECKING:
    __version__: str

    from .bus import EventBus as EventBus
    from .bus import EventStream as EventStream
    from .bus import Filter as Filter
    from .bus import Lease as Lease
    from .bus import Ledger as Ledger
    from .bus import LedgerRow as LedgerRow
    from .bus import RunCost as RunCost
    from .bus import Subscriber as Subscriber
    from .bus import TrainerCallback as TrainerCallback
    from .bus import on as on
    from .engine import RunSummary as RunSummary
    from .engine import TrainingRun as TrainingRun
    from .engine import enable_full_determinism as enable_full_determinism
    from .engine import get_last_checkpoint as get_last_checkpoint
    from .engine import get_scheduler as get_scheduler
    from .engine import run_async as run_async
    from .engine import set_seed as set_seed
    from .engine.bridges.lightning import LightningBridge as LightningBridge
    from .engine.bridges.transformers import TransformersBridge as TransformersBridge
    from .engine.trainer import DefaultDataCollator as DefaultDataCollator
    from .engine.trainer import EvalLoopOutput as EvalLoopOutput
    from .engine.trainer import EvalPrediction as EvalPrediction
    from .engine.trainer import PredictionOutput as PredictionOutput
    from .engine.trainer import Trainer as Trainer
    from .engine.trainer import TrainOutput as TrainOutput
    from .engine.trainer import default_data_collator as default_data_collator
    from .schemas import AnyEvent as AnyEvent
    from .schemas import ArgumentError as ArgumentError
    from .schemas import Artifact as Artifact
    from .schemas import BatchSizeRetry as BatchSizeRetry
    from .schemas import BusClosedError as BusClosedError
    from .schemas import CheckpointError as CheckpointError
    from .schemas import DataError as DataError
    from .schemas import DeliveryError as DeliveryError
    from .schemas import EpochBegin as EpochBegin
    from .schemas import EpochEnd as EpochEnd
    from .schemas import Evaluate as Evaluate
    from .schemas import Event as Event
    from .schemas import EventsGoneError as EventsGoneError
    from .schemas import Histogram as Histogram
    from .schemas import InitEnd as InitEnd
    from .schemas import IntervalStrategy as IntervalStrategy
    from .schemas import Log as Log
    from .schemas import Measured as Measured
    from .schemas import NonFinite as NonFinite
    from .schemas import OptimizerStep as OptimizerStep
    from .schemas import OptimizerStepSkipped as OptimizerStepSkipped
    from .schemas import Predict as Predict
    from .schemas import PredictionStep as PredictionStep
    from .schemas import PreOptimizerStep as PreOptimizerStep
    from .schemas import PushBegin as PushBegin
    from .schemas import Resumed as Resumed
    from .schemas import RunFailed as RunFailed
    from .schemas import Save as Save
    from .schemas import SaveStrategy as SaveStrategy
    from .schemas import SchedulerType as SchedulerType
    from .schemas import Stalled as Stalled
    from .schemas import StepBegin as StepBegin
    from .schemas import StepbusError as StepbusError
    from .schemas import StepEnd as StepEnd
    from .schemas import SubscriberBehind as SubscriberBehind
    from .schemas import SubscriberFailed as SubscriberFailed
    from .schemas import SubstepEnd as SubstepEnd
    from .schemas import TrainBegin as TrainBegin
    from .schemas import TrainEnd as TrainEnd
    from .schemas import TrainerControl as TrainerControl
    from .schemas import TrainerState as TrainerState
    from .schemas import TrainingArguments as TrainingArguments
    from .schemas import TrainingEvent as TrainingEvent
    from .schemas import UnknownEvent as UnknownEvent
    from .schemas import UnreachableError as UnreachableError
    from .schemas import Verdict as Verdict
    from .schemas import Vote as Vote
    from .schemas import VotePolicy as VotePolicy
    from .schemas import parse_event as parse_event
    from .subscribers import AzureMLCallback as AzureMLCallback
    from .subscribers import ClearMLCallback as ClearMLCallback
    from .subscribers import CodeCarbonCallback as CodeCarbonCallback
    from .subscribers import CometCallback as CometCallback
    from .subscribers import CSVHistory as CSVHistory
    from .subscribers import DagsHubCallback as DagsHubCallback
    from .subscribers import DefaultFlowCallback as DefaultFlowCallback
    from .subscribers import DVCLiveCallback as DVCLiveCallback
    from .subscribers import EarlyStoppingCallback as EarlyStoppingCallback
    from .subscribers import ExperimentRun as ExperimentRun
    from .subscribers import ExperimentTracker as ExperimentTracker
    from .subscribers import FlyteCallback as FlyteCallback
    from .subscribers import HubCallback as HubCallback
    from .subscribers import JSONLHistory as JSONLHistory
    from .subscribers import KubeflowCallback as KubeflowCallback
    from .subscribers import LossCurve as LossCurve
    from .subscribers import MLflowCallback as MLflowCallback
    from .subscribers import PrinterCallback as PrinterCallback
    from .subscribers import ProgressCallback as ProgressCallback
    from .subscribers import RunStatus as RunStatus
    from .subscribers import StructuredLog as StructuredLog
    from .subscribers import SwanLabCallback as SwanLabCallback
    from .subscribers import TensorBoardCallback as TensorBoardCallback
    from .subscribers import TrackioCallback as TrackioCallback
    from .subscribers import UploadCallback as UploadCallback
    from .subscribers import WandbCallback as WandbCallback
    from .subscribers import WebhookCallback as WebhookCallback
    from .subscribers import download_checkpoint as download_checkpoint
    from .subscribers import latest_upload as latest_upload
    from .subscribers import upload_checkpoint as upload_checkpoint

_ROOMS: dict[str, tuple[str, ...]] = {
    "bus": (
        "EventBus",
        "EventStream",
        "Filter",
        "Ledger",
        "LedgerRow",
        "Lease",
        "RunCost",
        "Subscriber",
        "TrainerCallback",
        "on",
    ),
    "engine": (
        "RunSummary",
        "TrainingRun",
        "enable_full_determinism",
        "get_last_checkpoint",
        "get_scheduler",
        "run_async",
        "set_seed",
    ),
    "engine.bridges.lightning": ("LightningBridge",),
    "engine.bridges.transformers": ("TransformersBridge",),
    "engine.trainer": (
        "DefaultDataCollator",
        "EvalLoopOutput",
        "EvalPrediction",
        "PredictionOutput",
        "TrainOutput",
        "Trainer",
        "default_data_collator",
    ),
    "schemas": (
        "AnyEvent",
        "ArgumentError",
        "Artifact",
        "BatchSizeRetry",
        "BusClosedError",
        "CheckpointError",
        "DataError",
        "DeliveryError",
        "EpochBegin",
        "EpochEnd",
        "Evaluate",
        "Event",
        "EventsGoneError",
        "Histogram",
        "InitEnd",
        "IntervalStrategy",
        "Log",
        "Measured",
        "NonFinite",
        "OptimizerStep",
        "OptimizerStepSkipped",
        "PreOptimizerStep",
        "Predict",
        "PredictionStep",
        "PushBegin",
        "Resumed",
        "RunFailed",
        "Save",
        "SaveStrategy",
        "SchedulerType",
        "Stalled",
        "StepBegin",
        "StepEnd",
        "StepbusError",
        "SubscriberBehind",
        "SubscriberFailed",
        "SubstepEnd",
        "TrainBegin",
        "TrainEnd",
        "TrainerControl",
        "TrainerState",
        "TrainingArguments",
        "TrainingEvent",
        "UnknownEvent",
        "UnreachableError",
        "Verdict",
        "Vote",
        "VotePolicy",
        "parse_event",
    ),
    "subscribers": (
        "AzureMLCallback",
        "CSVHistory",
        "ClearMLCallback",
        "CodeCarbonCallback",
        "CometCallback",
        "DVCLiveCallback",
        "DagsHubCallback",
        "DefaultFlowCallback",
        "EarlyStoppingCallback",
        "ExperimentRun",
        "ExperimentTracker",
        "FlyteCallback",
        "HubCallback",
        "JSONLHistory",
        "KubeflowCallback",
        "LossCurve",
        "MLflowCallback",
        "PrinterCallback",
        "ProgressCallback",
        "RunStatus",
        "StructuredLog",
        "SwanLabCallback",
        "TensorBoardCallback",
        "TrackioCallback",
        "UploadCallback",
        "WandbCallback",
        "WebhookCallback",
        "download_checkpoint",
        "latest_upload",
        "upload_checkpoint",
    ),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = ["__version__", *sorted(_ROOM_OF)]  # noqa: PLE0604 - they are strings


def _explained(name: str) -> str:
    """What to say of a name that there is none of."""
    from .integrations import closed

    if name.startswith("Seq2SeqTrain"):
        return (
            f"stepbus has no {name}: it generates no text while it evaluates. Train with "
            "transformers' own class, callbacks=[TransformersBridge(bus)]."
        )
    close = difflib.get_close_matches(name, _ROOM_OF, n=1)
    hint = f"did you mean {close[0]}? Otherwise: " if close else ""
    return closed(__name__, name) or (
        f"stepbus has no {name}: {hint}models, tokenizers and collators stay in transformers."
    )


if not TYPE_CHECKING:  # A checker must see the names above, and no others.

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            try:
                return version("stepbus")
            except PackageNotFoundError:
                return "0+source"
        room = _ROOM_OF.get(name)
        if room is None:
            raise no_such_name(__name__, _explained(name))
        value = getattr(importlib.import_module(f".{room}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
