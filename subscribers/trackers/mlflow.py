"""Logs to MLflow: a server, or a database in the run's folder."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...bus.diagnostics import get_logger
from ...schemas import Artifact, Save
from ...schemas.errors import DeliveryError, UnreachableError
from .experiment import ExperimentTracker
from .experiment_hooks import Value
from .experiment_run import ExperimentRun, RunStatus, flat, plain
from .mlflow_address import tracker_of_its_own
from .mlflow_answers import asking
from .mlflow_artifacts import log_artifact_to
from .mlflow_place import experiment_of, run_of
from .mlflow_settings import MLflowSettings, is_true

log = get_logger()

DATABASE = "mlflow.db"
NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z_\-. :/]")
PARAMS_A_REQUEST = 100
MAX_COLLECTED = 900
LEAST_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Where the environment does not say otherwise: MLflow itself waits for two minutes seven times,
and what is not answered is kept here and sent again."""
STATUS = {"finished": "FINISHED", "stopped": "FINISHED", "failed": "FAILED", "killed": "KILLED"}


class MLflowCallback(ExperimentTracker):
    """Logs to a run of MLflow, under the names that were logged, with the time of each event.

    Values are sent in batches, four times a second at most. MLflow takes a point that comes twice
    as one. Where neither an argument nor MLFLOW_TRACKING_URI says where to, the run has a database
    `mlflow.db` in its `output_dir`, with files beside it. A run that the script has open is used
    and left open; MLFLOW_NESTED_RUN makes one inside of it. MLflow's fluent functions, which would
    begin runs of their own in another thread, are not used.

    Args:
        tracking_uri: the server or database; otherwise MLFLOW_TRACKING_URI.
        experiment_name: otherwise MLFLOW_EXPERIMENT_NAME or MLFLOW_EXPERIMENT_ID, else MLflow's
            default experiment; "stepbus" in a database of the run's own. Made if there is none.
        run_name: otherwise the run's name.
        run_id: the run of MLflow to go on with; otherwise MLFLOW_RUN_ID.
        tags: further tags; beside those of MLFLOW_TAGS, a JSON object.
        nested: otherwise MLFLOW_NESTED_RUN.
        flatten_params: one parameter for each inner value; otherwise MLFLOW_FLATTEN_PARAMS.
        max_log_params: how many parameters at most; otherwise MLFLOW_MAX_LOG_PARAMS.
        log_artifacts: logs each checkpoint's files; otherwise HF_MLFLOW_LOG_ARTIFACTS.

    Raises:
        ArgumentError: MLFLOW_TAGS or MLFLOW_MAX_LOG_PARAMS cannot be read, before anything else.
        DeliveryError: in `open()`: mlflow is not installed, or the server does not answer.
    """

    tracker_name: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"
    modules: ClassVar[tuple[str, ...]] = ("mlflow",)
    set_up_by: ClassVar[str] = "MLFLOW_TRACKING_URI or MLFLOW_EXPERIMENT_NAME"
    rewrites_keys: ClassVar[bool] = False
    params_can_change: ClassVar[bool] = False
    metrics_a_request: ClassVar[int] = 1_000
    """How many values the server takes at once."""

    def __init__(
        self,
        *,
        tracking_uri: str | None = None,
        experiment_name: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        nested: bool | None = None,
        flatten_params: bool | None = None,
        max_log_params: int | None = None,
        log_artifacts: bool | None = None,
    ) -> None:
        super().__init__()
        self._settings = MLflowSettings(
            {
                "tracking_uri": tracking_uri,
                "experiment_name": experiment_name,
                "run_name": run_name,
                "run_id": run_id,
                "tags": dict(tags) if tags is not None else None,
                "nested": nested,
                "flatten_params": flatten_params,
                "max_log_params": max_log_params,
                "log_artifacts": log_artifacts,
            }
        )
        self._client: Any = None
        self._id = ""
        self._is_ours = False
        self._scripts_run: str | None = None
        self._metrics: list[Any] = []

    def made_with(self) -> dict[str, Any] | None:
        """Its arguments."""
        return dict(self._settings.arguments)

    def check(self, args: object) -> None:
        """Refuses settings that cannot be read.

        Raises:
            ArgumentError: MLFLOW_TAGS or MLFLOW_MAX_LOG_PARAMS.
        """
        self._settings.tags()
        self._settings.max_params()

    @classmethod
    def why_not(cls) -> str:
        """DISABLE_MLFLOW_INTEGRATION is obeyed."""
        disabled = is_true("DISABLE_MLFLOW_INTEGRATION")
        return "DISABLE_MLFLOW_INTEGRATION is set" if disabled else ""

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, and told where to log, or as what; not where another tracker does that."""
        if not cls.is_installed() or tracker_of_its_own(os.environ.get("MLFLOW_TRACKING_URI")):
            return False
        names = ("TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID", "RUN_ID")
        return any(os.environ.get(f"MLFLOW_{name}") for name in names)

    def why_here(self) -> str:
        """A run that the script has open can only be found in the script's own thread."""
        why = super().why_here()
        fluent = sys.modules.get("mlflow")
        active = fluent.active_run() if fluent is not None else None
        if active is None:
            return why
        self._scripts_run = active.info.run_id
        return why or "the script has a run of mlflow open."

    def open(self) -> None:
        """Imports mlflow, and sees whether its server answers."""
        for name, value in LEAST_PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise self.not_installed(error) from error
        self.check(None)
        self._choose_uploads()
        uri = self._settings.tracking_uri
        if uri and uri.startswith(("http://", "https://", "azureml://")):
            try:
                MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
            except Exception as error:
                raise DeliveryError(
                    f"The MLflow server at {uri} cannot be used ({type(error).__name__}: {error}): "
                    "start it, or change MLFLOW_TRACKING_URI."
                ) from error

    def _choose_uploads(self) -> None:
        logs_files = self._settings.is_on("log_artifacts", "HF_MLFLOW_LOG_ARTIFACTS")
        self.uploads = "checkpoint" if logs_files else "no"

    def start(self, run: ExperimentRun) -> None:
        """Opens the run that is to go on, or makes one."""
        from mlflow import MlflowClient

        uri = self._settings.tracking_uri
        own = run.output_dir.absolute()
        if not uri:
            own.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=uri or f"sqlite:///{own / DATABASE}")
        nested = self._settings.is_on("nested", "MLFLOW_NESTED_RUN")
        with asking():
            if self._scripts_run is not None and not nested:
                self._id, self._is_ours = self._scripts_run, False
                experiment = client.get_run(self._id).info.experiment_id
            else:
                parent = self._scripts_run
                experiment = experiment_of(client, self._settings, own if not uri else None)
                self._id = run_of(client, experiment, run, self._settings, parent=parent)
                self._is_ours = True
        self._client = client
        address = client.tracking_uri
        where = f"{address.rstrip('/')}/#/experiments/{experiment}/runs/{self._id}"
        online = address.startswith("http")
        self.found(id=self._id, url=where if online else None, folder=str(own) if not uri else None)
        log.info(f"mlflow: {where if online else f'run {self._id} is in {address}'}")

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs them as texts; those that the run has already stay as they are."""
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        assert self.run is not None
        given = plain(params)
        if self._settings.is_on("flatten_params", "MLFLOW_FLATTEN_PARAMS"):
            given = flat(given)
        with asking():
            has = self._client.get_run(self._id).data.params if self.run.resumed else {}
            found = []
            for name, value in list(given.items())[: self._settings.max_params()]:
                key, text = NOT_IN_NAMES.sub("_", name), str(value)
                if len(text) > MAX_PARAM_VAL_LENGTH:
                    self.say_once(
                        f"mlflow: the parameter {name} is cut to {MAX_PARAM_VAL_LENGTH} "
                        "characters; MLFLOW_FLATTEN_PARAMS=1 logs its inner values one by one."
                    )
                    text = text[:MAX_PARAM_VAL_LENGTH]
                if key not in has:
                    found.append(Param(key, text))
            for at in range(0, len(found), PARAMS_A_REQUEST):
                batch = found[at : at + PARAMS_A_REQUEST]
                self._client.log_batch(self._id, params=batch, synchronous=True)

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Collects them for the next batch."""
        from mlflow.entities import Metric

        if len(self._metrics) + len(metrics) > MAX_COLLECTED:
            self.flush()
        at_ms = int(time * 1_000)
        for name, value in metrics.items():
            if isinstance(value, str):
                self.cannot("texts as metrics")
                continue
            self._metrics.append(Metric(NOT_IN_NAMES.sub("_", name), float(value), at_ms, step))
        self.collected()

    def flush(self) -> None:
        """Sends what was collected; what is not answered is kept."""
        while self._metrics:
            batch = self._metrics[: self.metrics_a_request]
            try:
                with asking():
                    self._client.log_batch(self._id, metrics=batch, synchronous=True)
            except UnreachableError as error:
                steps = f"steps {self._metrics[0].step} to {self._metrics[-1].step}"
                raise UnreachableError(
                    f"{error}; {len(self._metrics)} values of {steps} are not delivered"
                ) from error
            except Exception:
                del self._metrics[: len(batch)]
                raise
            del self._metrics[: len(batch)]

    def log_artifact(self, event: Artifact) -> None:
        """Logs it as a file, a table as MLflow's own, in a folder `<tag>/step-<step>`."""
        with asking():
            log_artifact_to(self._client, self._id, event)

    def upload_checkpoint(self, folder: Path, event: Save) -> None:
        """Logs its files, under the name of the folder."""
        with asking():
            self._client.log_artifacts(self._id, str(folder), artifact_path=folder.name)

    def finish(self, status: RunStatus) -> None:
        """Ends the run with its status; one of the script's own stays open."""
        from mlflow.entities import RunTag

        tags = [RunTag(f"stepbus.{name}", text[:5_000]) for name, text in status.told().items()]
        with asking():
            self._client.log_batch(self._id, tags=tags, synchronous=True)
            if self._is_ours:
                now_ms = int(time.time() * 1_000)
                self._client.set_terminated(self._id, STATUS[status.kind], now_ms)
