"""Who listens: the schedule, early stopping, displays, files, trackers, uploads and alarms."""

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
    AzureMLCallback,
    ClearMLCallback,
    CodeCarbonCallback,
    CometCallback,
    DagsHubCallback,
    DVCLiveCallback,
    ExperimentRun,
    ExperimentTracker,
    FlyteCallback,
    KubeflowCallback,
    MLflowCallback,
    RunStatus,
    SwanLabCallback,
    TrackioCallback,
    WandbCallback,
)
from .uploads import (
    HubCallback,
    UploadCallback,
    download_checkpoint,
    latest_upload,
    upload_checkpoint,
)
from .webhook import WebhookCallback

__all__ = [
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
    "Reporter",
    "RunStatus",
    "StructuredLog",
    "SwanLabCallback",
    "TensorBoardCallback",
    "Tracker",
    "TrackioCallback",
    "UploadCallback",
    "WandbCallback",
    "WebhookCallback",
    "download_checkpoint",
    "latest_upload",
    "upload_checkpoint",
]
