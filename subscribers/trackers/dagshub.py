"""Logs to DagsHub: to the MLflow server of a repository, and a checkpoint into the repository."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ...schemas import Event
from ...schemas.errors import ArgumentError
from .dagshub_repository import DagsHubRepository, log_in
from .mlflow import MLflowCallback
from .mlflow_address import DagsHubAddress, dagshub_address, dagshub_host

ARTIFACTS = "artifacts"
"""The folder in the repository, as in the reference."""


class DagsHubCallback(MLflowCallback):
    """Logs to the MLflow server of a DagsHub repository, as `MLflowCallback` does.

    With HF_DAGSHUB_LOG_ARTIFACTS the checkpoint that training ends with, the best where that is
    loaded, is committed to the repository, under `artifacts/<its name>`. It logs in with
    DAGSHUB_USER_TOKEN, with DAGSHUB_USERNAME and DAGSHUB_PASSWORD or with what `dagshub login` has
    stored, and asks nobody.

    Args:
        tracking_uri: `https://dagshub.com/<owner>/<repository>.mlflow`; otherwise
            MLFLOW_TRACKING_URI, which `dagshub.init()` sets.
        experiment_name: as in `MLflowCallback`, and so are the next six.
        run_name: the run's name.
        run_id: the run of MLflow to go on with.
        tags: further tags.
        nested: whether it is inside of the run that the script has open.
        flatten_params: one parameter for each inner value.
        max_log_params: how many parameters at most.
        log_artifacts: commits the checkpoint; otherwise HF_DAGSHUB_LOG_ARTIFACTS.
        model_name: a folder in `artifacts` for it; otherwise HF_DAGSHUB_MODEL_NAME.
        branch: where it is committed; otherwise BRANCH, else "main".

    Raises:
        ArgumentError: the address is none of DagsHub's, in `open()`.
        DeliveryError: in `open()`: dagshub or mlflow is not installed, there is no login, or the
            server or the repository does not answer.
    """

    tracker_name: ClassVar[str] = "dagshub"
    package: ClassVar[str] = "dagshub"
    extra: ClassVar[str] = "dagshub"
    modules: ClassVar[tuple[str, ...]] = ("mlflow", "dagshub")
    set_up_by: ClassVar[str] = "MLFLOW_TRACKING_URI of a DagsHub repository"
    needs_login: ClassVar[bool] = True

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
        model_name: str | None = None,
        branch: str | None = None,
    ) -> None:
        super().__init__(
            tracking_uri=tracking_uri,
            experiment_name=experiment_name,
            run_name=run_name,
            run_id=run_id,
            tags=tags,
            nested=nested,
            flatten_params=flatten_params,
            max_log_params=max_log_params,
            log_artifacts=log_artifacts,
        )
        self._settings.arguments |= {"model_name": model_name, "branch": branch}
        self._repository: DagsHubRepository | None = None

    def made_with(self) -> dict[str, Any] | None:
        """Its arguments."""
        return dict(self._settings.arguments)

    @classmethod
    def is_installed(cls) -> bool:
        """Whether dagshub and mlflow can be imported."""
        return super().is_installed() and MLflowCallback.is_installed()

    @classmethod
    def is_set_up(cls) -> bool:
        """Installed, and told of a repository of DagsHub's."""
        return cls.is_installed() and bool(dagshub_address(os.environ.get("MLFLOW_TRACKING_URI")))

    def check(self, args: object) -> None:
        """Refuses an address that is not DagsHub's, and what `MLflowCallback` refuses.

        Raises:
            ArgumentError: it is another one, or there is none.
        """
        self._address()
        super().check(args)

    def open(self) -> None:
        """Imports dagshub, logs in, and sees whether the server and the repository answer."""
        address = self._address()
        try:
            import dagshub  # noqa: F401
        except ImportError as error:
            raise self.not_installed(error) from error
        login = log_in()
        commits = self._settings.is_on("log_artifacts", "HF_DAGSHUB_LOG_ARTIFACTS")
        if commits:
            branch = self._settings.chosen("branch", "BRANCH") or "main"
            self._repository = DagsHubRepository(address, login, branch)
            self._repository.check()
        super().open()
        if commits:
            self.uploads = "end"

    def upload_model(self, folder: Path, event: Event) -> None:
        """Commits the checkpoint to the repository."""
        assert self._repository is not None
        assert self.run is not None
        model_name = self._settings.chosen("model_name", "HF_DAGSHUB_MODEL_NAME")
        parts = (ARTIFACTS, model_name, folder.name)
        place = "/".join(part for part in parts if part)
        self._repository.upload(folder, place, f"{self.run.name or 'stepbus'}: {folder.name}")

    def _address(self) -> DagsHubAddress:
        uri = self._settings.tracking_uri
        address = dagshub_address(uri)
        if address is None:
            said = f"is {uri!r}, which is none of DagsHub's" if uri else "is not set"
            raise ArgumentError(
                f"MLFLOW_TRACKING_URI {said}: it must be "
                f"{dagshub_host()}/<owner>/<repository>.mlflow, as `dagshub.init()` sets it."
            )
        return address
