"""What Azure ML has of a run: by its MLflow plugin and a workspace on loopback, and offline."""

from __future__ import annotations

import base64
import importlib
import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepbus import AzureMLCallback, DeliveryError
from stepbus.bus.registry import Registry, resolve_report_to
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.mlflow_server import MLflowServer
from tests.subscribers.trackers.passing_on import PassingOn
from tests.subscribers.trackers.reading.mlflow import once, stored_runs

pytestmark = pytest.mark.slow

WORKSPACE = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/group"
    "/providers/Microsoft.MachineLearningServices/workspaces/space"
)


def token() -> str:
    """As Azure ML gives one to a job: the plugin reads when it ends."""
    parts: list[dict[str, Any]] = [{"alg": "HS256"}, {"exp": int(time.time()) + 3_600}, {}]
    texts = (base64.urlsafe_b64encode(json.dumps(part).encode()) for part in parts)
    return ".".join(text.rstrip(b"=").decode() for text in texts)


@pytest.fixture
def workspace(
    mlflow_server: MLflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A job's environment, whose workspace is a server of MLflow behind TLS; the id of its run."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext".split()
    words += ["subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    behind = f"/mlflow/v2.0{WORKSPACE}"
    way = PassingOn(mlflow_server.port, without=behind, context=context)
    experiment = mlflow_server.ask("experiments/create", name=str(tmp_path))["experiment_id"]
    run = mlflow_server.ask("runs/create", experiment_id=experiment, run_name="job")["run"]
    run_id: str = run["info"]["run_id"]
    for name, value in {
        "AZUREML_RUN_ID": run_id,
        "MLFLOW_TRACKING_URI": f"azureml://localhost:{way.port}{behind}",
        "MLFLOW_TRACKING_TOKEN": token(),
        "MLFLOW_RUN_ID": run_id,
        "MLFLOW_EXPERIMENT_ID": experiment,
        "MLFLOW_EXPERIMENT_NAME": str(tmp_path),
        "REQUESTS_CA_BUNDLE": str(certificate),
    }.items():
        monkeypatch.setenv(name, value)
    yield run_id
    way.close()


def test_a_job_with_the_plugin_gets_everything_in_its_run(
    train_with: TrainWith, mlflow_server: MLflowServer, workspace: str
) -> None:
    before = len(stored_runs(mlflow_server.database))
    trained = train_with(AzureMLCallback(azureml_log_prefix="hf/"), train=False)
    with trained.trainer as trainer:
        trainer.evaluate()
        trainer.train()
        trainer.evaluate(metric_key_prefix="test")
    trained.assert_nothing_failed()
    assert trained.delivery == "process"
    runs = stored_runs(mlflow_server.database)
    assert len(runs) == before
    (run,) = [run for run in runs if run.run_id == workspace]
    assert trainer.tracker("azure_ml")["id"] == workspace
    closing = {name: [(6, value)] for name, value in trained.closing().items()}
    expected = {**trained.logged(rewritten=False), **closing}
    prefixed = {f"hf/{name}": points for name, points in expected.items()}
    assert once(run.all_points()) == once(prefixed)
    assert [step for step, _ in run.all_points()["hf/eval_loss"]] == [0, 3, 6]
    assert set(trained.params) <= set(run.params)
    assert run.params["seed"] == "42"
    # The run is the job's, which ends it.
    assert (run.status, run.tags["stepbus.status"]) == ("RUNNING", "finished")


def test_a_script_that_is_no_job_prints_its_values(
    train_with: TrainWith, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    trained = train_with(AzureMLCallback(), max_steps=2, eval_steps=2)
    assert trained.delivery == "process"
    assert trained.trainer.tracker("azure_ml")["id"].startswith("OfflineRun_")
    said = "".join(capfd.readouterr())
    for name, points in trained.logged(rewritten=False).items():
        for _, value in points:
            assert f"Attempted to log scalar metric {name}:\n{value}\n" in said
    assert "Attempted to set tags {'stepbus.status': 'finished'}" in said
    assert "this is no job of Azure ML: values are printed, and kept nowhere" in caplog.text


@pytest.mark.filterwarnings("ignore")  # azureml-core's own, in this process for once
def test_a_run_that_is_given_is_used_in_this_process(
    train_with: TrainWith,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    core: Any = importlib.import_module("azureml.core.run")
    own = core.Run.get_context()
    tracker = AzureMLCallback(own, log_artifacts=True)
    fields: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "no"}
    trained = train_with(tracker, train=False, max_steps=1, **fields)
    with trained.trainer as trainer:
        trainer.train()
        trainer.log_text("notes", "done")
    trained.assert_nothing_failed()
    assert trained.delivery == "thread"
    assert trainer.tracker("azure_ml")["id"] == own.id
    said = capfd.readouterr().out
    ((_, loss),) = trained.logged(rewritten=False)["loss"]
    assert f"Attempted to log scalar metric loss:\n{loss}" in said
    folder = trained.output_dir / "checkpoint-1"
    assert f"Attempted to track folder checkpoint-1 at {folder}\n" in said
    assert "Attempted to track file notes/step-1/notes.txt at " in said
    assert "takes no parameters by azureml-core" in caplog.text


def test_a_job_whose_workspace_does_not_answer_is_an_error_before_the_first_step(
    train_with: TrainWith, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"azureml://localhost:1/mlflow/v2.0{WORKSPACE}")
    trained = train_with(AzureMLCallback(), train=False)
    with pytest.raises(DeliveryError, match="The MLflow server at azureml://localhost:1/"):
        trained.trainer.train()
    assert trained.trainer.state.global_step == 0


def test_it_is_set_up_in_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def attached() -> set[str]:
        choices = resolve_report_to(None, Registry(), {})
        return {choice.name for choice in choices if choice.attached} & {"azure_ml", "mlflow"}

    assert attached() == set()
    monkeypatch.setenv("AZUREML_RUN_ID", "r")
    assert attached() == {"azure_ml"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"azureml://localhost:1{WORKSPACE}")
    monkeypatch.delenv("AZUREML_RUN_ID")
    assert attached() == {"azure_ml"}
