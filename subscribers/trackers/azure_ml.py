"""Logs to the run of an Azure ML job: by its MLflow plugin, or by azureml-core."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...schemas import Artifact, Save
from .azure_ml_run import AzureMLRun, job_run_id
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus
from .mlflow import MLflowCallback
from .mlflow_address import has_module, is_of_azure
from .mlflow_settings import MLflowSettings

MOST_PARAMS = 200
"""Parameters that Azure ML takes for a run."""


class AzureMLCallback(MLflowCallback):
    """Logs to the run of the Azure ML job that the script is.

    In a job, MLFLOW_TRACKING_URI is an `azureml://` address, and with azureml-mlflow installed the
    run gets all that `MLflowCallback` logs: parameters, numbers by step, files, checkpoints. With
    azureml-core alone it gets numbers and files. A script that is no job prints them, as
    azureml-core does it, so that it can be tried before it is submitted. The job ends its run.

    Args:
        azureml_run: a run of azureml-core to log to, instead of the job's. It is left open, and
            works in a thread of this process.
        azureml_log_prefix: put before the name of each value, as `train/`.
        flatten_params: as in `MLflowCallback`.
        max_log_params: how many parameters at most; otherwise MLFLOW_MAX_LOG_PARAMS, else 200.
        log_artifacts: uploads each checkpoint's files; otherwise HF_MLFLOW_LOG_ARTIFACTS.

    Raises:
        ArgumentError: as in `MLflowCallback`.
        DeliveryError: in `open()`: neither azureml-core nor, in a job with an `azureml://` address,
            azureml-mlflow is installed; or the workspace does not answer.
    """

    tracker_name: ClassVar[str] = "azure_ml"
    package: ClassVar[str] = "azureml"
    extra: ClassVar[str] = "azure"
    modules: ClassVar[tuple[str, ...]] = ("azureml", "mlflow")
    set_up_by: ClassVar[str] = "a job of Azure ML"
    needs_login: ClassVar[bool] = True
    metrics_a_request: ClassVar[int] = 250

    def __init__(
        self,
        azureml_run: Any = None,
        *,
        azureml_log_prefix: str = "",
        flatten_params: bool | None = None,
        max_log_params: int | None = None,
        log_artifacts: bool | None = None,
    ) -> None:
        super().__init__()
        self._given = azureml_run
        self._arguments = {
            "azureml_log_prefix": azureml_log_prefix,
            "flatten_params": flatten_params,
            "max_log_params": max_log_params,
            "log_artifacts": log_artifacts,
        }
        self._settings = MLflowSettings(self._arguments)
        self._core: AzureMLRun | None = None

    def made_with(self) -> dict[str, Any] | None:
        """Its arguments; none with a run, which is in this process alone."""
        return dict(self._arguments) if self._given is None else None

    @classmethod
    def is_installed(cls) -> bool:
        """Whether azureml-core or azureml-mlflow can be imported."""
        return has_module("azureml.core") or has_module("azureml.mlflow")

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, in a job of Azure ML."""
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        return cls.is_installed() and (job_run_id() is not None or is_of_azure(uri))

    def key(self, name: str) -> str:
        """The name with its prefix."""
        return f"{self._arguments['azureml_log_prefix']}{name}"

    def open(self) -> None:
        """Imports what logs, and sees whether the workspace answers."""
        if self._by_plugin():
            self._settings.arguments["run_id"] = os.environ.get("MLFLOW_RUN_ID") or job_run_id()
            if self._settings.max_params() is None:
                self._settings.arguments["max_log_params"] = MOST_PARAMS
            super().open()
            return
        try:
            self._core = AzureMLRun.of(self._given)
        except ImportError as error:
            raise self.not_installed(error) from error
        self._choose_uploads()
        if self._core.is_offline:
            self.say_once(
                "azure_ml: this is no job of Azure ML: values are printed, and kept nowhere."
            )

    def start(self, run: ExperimentRun) -> None:
        """Takes the job's run."""
        if self._core is None:
            super().start(run)
        else:
            self.found(id=self._core.id, url=self._core.url)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs them where MLflow does it."""
        if self._core is None:
            super().log_params(params)
        else:
            self.cannot("parameters by azureml-core")

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Logs numbers; azureml-core sends them by itself."""
        if self._core is None:
            super().log_metrics(metrics, step=step, epoch=epoch, time=time)
            return
        for name, value in metrics.items():
            if isinstance(value, str):
                self.cannot("texts as metrics")
            else:
                self._core.log(name, value, step)
        self.collected()

    def flush(self) -> None:
        """Waits until azureml-core has sent what it has."""
        if self._core is None:
            super().flush()
        else:
            self._core.flush()

    def log_artifact(self, event: Artifact) -> None:
        """Uploads it as a file, in a folder `<tag>/step-<step>`."""
        if self._core is None:
            super().log_artifact(event)
        else:
            self._core.upload_artifact(event)

    def upload_checkpoint(self, folder: Path, event: Save) -> None:
        """Uploads its files, under the name of the folder."""
        if self._core is None:
            super().upload_checkpoint(folder, event)
        else:
            self._core.upload_folder(folder.name, folder)

    def finish(self, status: RunStatus) -> None:
        """Tags the run with its status, which the job ends by itself."""
        if self._core is None:
            super().finish(status)
        else:
            self._core.tag({f"stepbus.{name}": text for name, text in status.told().items()})
            self._core.flush()

    def _by_plugin(self) -> bool:
        """Whether MLflow logs to the workspace."""
        of_azure = is_of_azure(os.environ.get("MLFLOW_TRACKING_URI"))
        return self._given is None and of_azure and has_module("azureml.mlflow")
