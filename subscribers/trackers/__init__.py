"""Trackers of experiments: what they share, and one file for each."""

from .experiment import ExperimentTracker
from .experiment_run import ExperimentRun, RunStatus
from .wandb import WandbCallback

__all__ = ["ExperimentRun", "ExperimentTracker", "RunStatus", "WandbCallback"]
