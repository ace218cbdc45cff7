"""Who listens: the schedule, early stopping, displays, files and trackers."""

from .default_flow import DefaultFlowCallback
from .early_stopping import EarlyStoppingCallback
from .history import CSVHistory, JSONLHistory
from .loss_curve import LossCurve
from .printer import PrinterCallback
from .progress import ProgressCallback
from .reporter import Reporter, Tracker
from .structured_log import StructuredLog
from .tensorboard import TensorBoardCallback
from .trackers import (
    ExperimentRun,
    ExperimentTracker,
    MLflowCallback,
    RunStatus,
    WandbCallback,
)

__all__ = [
    "CSVHistory",
    "DefaultFlowCallback",
    "EarlyStoppingCallback",
    "ExperimentRun",
    "ExperimentTracker",
    "JSONLHistory",
    "LossCurve",
    "MLflowCallback",
    "PrinterCallback",
    "ProgressCallback",
    "Reporter",
    "RunStatus",
    "StructuredLog",
    "TensorBoardCallback",
    "Tracker",
    "WandbCallback",
]
