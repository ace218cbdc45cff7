"""A run of azureml-core: numbers and files, no parameters."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ...schemas import Artifact
from .artifact_file import file_of
from .mlflow_artifacts import place_of

LONGEST_TAG = 1_000
"""Characters that Azure ML takes for the value of a tag."""


def job_run_id() -> str | None:
    """The id of the run of the job that this process is; None where it is none."""
    return os.environ.get("AZUREML_RUN_ID") or None


class AzureMLRun:
    """A run of azureml-core, be it in a job, opened by the script or offline.

    Args:
        run: azureml-core's.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._takes_steps = "step" in inspect.signature(run.log).parameters
        self.is_offline = type(run).__name__ == "_OfflineRun"
        """Whether it prints what it is given, and keeps nothing."""

    @classmethod
    def of(cls, given: Any) -> Self:
        """The run that was given, else that of the job, else one that prints.

        Raises:
            ImportError: azureml-core is not installed.
            Exception: azureml-core's own, where the job's run cannot be had.
        """
        from azureml.core.run import Run

        return cls(given or Run.get_context(allow_offline=job_run_id() is None))

    @property
    def id(self) -> str:
        """Its id."""
        return str(self._run.id)

    @property
    def url(self) -> str | None:
        """Where it is shown."""
        return None if self.is_offline else self._run.get_portal_url()

    def log(self, name: str, value: float, step: int) -> None:
        """Hands a number to the thread of azureml-core that sends it."""
        at = {"step": step} if self._takes_steps else {}
        self._run.log(name, value, description=name, **at)

    def flush(self) -> None:
        """Waits until all is sent."""
        if not self.is_offline:
            self._run.flush()

    def upload_artifact(self, event: Artifact) -> None:
        """Uploads a text, an image, a table or a file."""
        with file_of(event) as file:
            self._run.upload_file(place_of(event), str(file))

    def upload_folder(self, name: str, folder: Path) -> None:
        """Uploads a folder."""
        self._run.upload_folder(name, str(folder))

    def tag(self, texts: Mapping[str, str]) -> None:
        """Tags it."""
        self._run.set_tags({name: text[:LONGEST_TAG] for name, text in texts.items()})
