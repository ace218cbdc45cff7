"""Trackers of experiments: what they share, and one file for each."""

from .azure_ml import AzureMLCallback
from .clearml import ClearMLCallback
from .codecarbon import CodeCarbonCallback
from .comet import CometCallback
from .dagshub import DagsHubCallback
from .dvclive import DVCLiveCallback
from .experiment import ExperimentTracker
from .experiment_run import ExperimentRun, RunStatus
from .flyte import FlyteCallback
from .kubeflow import KubeflowCallback
from .mlflow import MLflowCallback
from .swanlab import SwanLabCallback
from .trackio import TrackioCallback
from .wandb import WandbCallback

__all__ = [
    "AzureMLCallback",
    "ClearMLCallback",
    "CodeCarbonCallback",
    "CometCallback",
    "DVCLiveCallback",
    "DagsHubCallback",
    "ExperimentRun",
    "ExperimentTracker",
    "FlyteCallback",
    "KubeflowCallback",
    "MLflowCallback",
    "RunStatus",
    "SwanLabCallback",
    "TrackioCallback",
    "WandbCallback",
]
