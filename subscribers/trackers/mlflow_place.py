"""Where a run is in MLflow: its experiment, and the run to go on with or a new one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from .experiment_run import ExperimentRun
from .mlflow_settings import MLflowSettings

ARTIFACTS = "mlartifacts"
EXPERIMENT = "stepbus"
"""Of a run's own database. MLflow's experiment "Default" keeps files in the working directory."""
RUN_TAG = "stepbus.run_id"


def experiment_of(client: Any, settings: MLflowSettings, own: Path | None) -> str:
    """The id of the experiment, which is made if there is none.

    Args:
        client: an `MlflowClient`.
        settings: which experiment.
        own: the run's folder, where the database is in it.
    """
    name = settings.chosen("experiment_name", "MLFLOW_EXPERIMENT_NAME")
    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if not name and given:
        return given
    if not name and own is None:
        return "0"
    name = name or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = (own / ARTIFACTS).as_uri() if own is not None else None
    return str(client.create_experiment(name, artifact_location=location))


def run_of(
    client: Any,
    experiment: str,
    run: ExperimentRun,
    settings: MLflowSettings,
    *,
    parent: str | None = None,
) -> str:
    """The id of the run to go on with, or of a new one.

    Args:
        client: an `MlflowClient`.
        experiment: the id of its experiment.
        run: what is to be logged.
        settings: which run, its name and its tags.
        parent: the id of the run that a new one is inside of.
    """
    known = settings.chosen("run_id", "MLFLOW_RUN_ID") or run.known.get("id")
    if not known and run.run_id:
        # One that was made, and whose making was not answered.
        same = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run.run_id}'")
        known = same[0].info.run_id if same else None
    if known:
        client.update_run(known, status="RUNNING")
        return str(known)
    tags = {
        "mlflow.user": os.environ.get("USER", ""),
        "mlflow.source.name": sys.argv[0],
        "mlflow.source.type": "LOCAL",
        RUN_TAG: run.run_id,
        **settings.tags(),
    }
    if parent is not None:
        tags["mlflow.parentRunId"] = parent
    if run.group:
        tags["stepbus.group"] = run.group
    name = settings.arguments.get("run_name") or run.name
    return str(client.create_run(experiment, tags=tags, run_name=name).info.run_id)
