"""Texts, images, tables and files as MLflow has them: files of the run, by step."""

from __future__ import annotations

import importlib
import re
import tempfile
from pathlib import Path
from typing import Any

from ...schemas import Artifact
from .artifact_file import file_name, file_of

NOT_IN_PATHS = re.compile(r"[^0-9A-Za-z_\-. :]")


def place_of(event: Artifact) -> str:
    """Where an artifact is among those of its run: `samples/first/step-100/first.png`."""
    parts = [part for part in event.tag.split("/") if part.strip(". ")]
    folders = [NOT_IN_PATHS.sub("_", part) for part in parts]
    return "/".join([*folders, f"step-{event.step}", file_name(event)])


def log_artifact_to(client: Any, run_id: str, event: Artifact) -> None:
    """Logs an artifact with an `MlflowClient`: its bytes as they are, a table as MLflow's own.

    What comes again takes the place of the first.

    Raises:
        Exception: MLflow's own, where it cannot be stored.
    """
    place = Path(place_of(event))
    if event.kind == "table" and _log_table(client, run_id, event, place.as_posix()):
        return
    with tempfile.TemporaryDirectory(prefix="stepbus-mlflow-") as folder, file_of(event) as file:
        # MLflow takes the name of the file that it is given.
        named = Path(folder) / place.name
        named.symlink_to(file)
        client.log_artifact(run_id, str(named), place.parent.as_posix())


def _log_table(client: Any, run_id: str, event: Artifact, place: str) -> bool:
    """Logs a table that MLflow shows as one; False without pandas, which MLflow needs for it."""
    try:
        pandas: Any = importlib.import_module("pandas")
    except ImportError:
        return False
    columns, rows = event.read_table()
    folder = place.rpartition("/")[0]
    if place in [found.path for found in client.list_artifacts(run_id, folder)]:
        return True  # It would add the rows to those that are there.
    table = pandas.DataFrame([list(row) for row in rows], columns=list(columns), dtype=object)
    client.log_table(run_id, table, place)
    return True
