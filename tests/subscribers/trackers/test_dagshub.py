"""What DagsHub has of a run: in the database of MLflow behind it, and in its repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stepbus import ArgumentError, DagsHubCallback, DeliveryError, MLflowCallback
from stepbus.bus.registry import Registry, resolve_report_to
from stepbus.schemas import TrainerState
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.dagshub_stand_in import NAME, OWNER, TOKEN, DagsHubStandIn
from tests.subscribers.trackers.mlflow_server import MLflowServer
from tests.subscribers.trackers.reading.mlflow import StoredRun, once, stored_runs

pytestmark = pytest.mark.slow


@pytest.fixture
def hub(mlflow_server: MLflowServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsHubStandIn]:
    hub = DagsHubStandIn(mlflow_server.port)
    monkeypatch.setenv("DAGSHUB_CLIENT_HOST", hub.address)
    monkeypatch.setenv("DAGSHUB_USER_TOKEN", TOKEN)
    monkeypatch.delenv("BRANCH", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{hub.address}/{OWNER}/{NAME}.mlflow")
    yield hub
    hub.close()


def stored(server: MLflowServer, run_id: str) -> list[StoredRun]:
    runs = stored_runs(server.database)
    return [run for run in runs if run.tags.get("stepbus.run_id") == run_id]


def test_a_training_is_there_with_its_checkpoint_and_nothing_is_said(
    train_with: TrainWith,
    hub: DagsHubStandIn,
    mlflow_server: MLflowServer,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HF_DAGSHUB_LOG_ARTIFACTS", "TRUE")
    monkeypatch.setenv("HF_DAGSHUB_MODEL_NAME", "tiny net")
    hub.failures_to_come = 1
    before = len(stored_runs(mlflow_server.database))
    trained = train_with(
        DagsHubCallback(tags={"team": "x"}),
        train=False,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
    )
    with trained.trainer as trainer:
        # Another rank of another run logs and commits nothing.
        second = trainer.bus.open_run(TrainerState(global_step=1), run_id="second", rank=1)
        trainer.evaluate()
        second.emit("train_begin", {"output_dir": str(tmp_path / "second")})
        second.emit("log", {"logs": {"loss": 1.0}})
        trainer.train()
        second.emit("save", {"path": str(trained.output_dir / "checkpoint-6")})
        second.emit("train_end")
        trainer.evaluate(metric_key_prefix="test")
        predicted = trainer.predict(trainer.eval_dataset).metrics or {}
    trained.assert_nothing_failed()
    assert trained.delivery == "process"
    (run,) = stored(mlflow_server, trainer.run_id)
    # No stray run of MLflow's beside it, and none of another rank.
    assert len(stored_runs(mlflow_server.database)) == before + 1
    where = trainer.tracker("dagshub")
    assert where["id"] == run.run_id
    assert where["url"].startswith(f"{hub.address}/{OWNER}/{NAME}.mlflow/#/experiments/")
    assert (run.name, run.status, run.tags["team"]) == ("tiny", "FINISHED", "x")
    expected = trained.logged(rewritten=False)
    for name, value in predicted.items():
        expected.setdefault(name, []).append((6, value))
    closing = {name: [(6, value)] for name, value in trained.closing().items()}
    assert once(run.all_points()) == once({**expected, **closing})
    assert run.params["learning_rate"] == "0.01"
    assert set(trained.params) <= set(run.params)
    # The checkpoint that it ended with, after an answer that was an error.
    place = "artifacts/tiny net/checkpoint-6"
    files = {f"{place}/{path}": data for path, data in trained.checkpoints.files[6].items()}
    assert hub.files == files
    assert set(hub.commits) == {("main", "tiny: checkpoint-6")}
    said = "".join(capfd.readouterr())
    assert "Accessing as" not in said
    assert "Uploading" not in said


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "http://127.0.0.1:5000",
        "https://dagshub.com/ada/engine",
        "https://dagshub.com/engine.mlflow",
        "https://dagshub.example/ada/engine.mlflow",
    ],
)
def test_an_address_that_is_not_dagshub_s_is_an_error_before_the_first_step(
    uri: str | None, train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    said = "is not set: it must be https://dagshub.com/<owner>/<repository>.mlflow"
    with pytest.raises(ArgumentError, match=said if uri is None else f"is '{uri}', which is none"):
        train_with(DagsHubCallback())


def test_nobody_is_asked_for_a_login(
    train_with: TrainWith, hub: DagsHubStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSHUB_USER_TOKEN", "another")
    trained = train_with(DagsHubCallback(log_artifacts=True), train=False)
    with pytest.raises(DeliveryError, match="DagsHub's repository ada/engine cannot be used"):
        trained.trainer.train()
    monkeypatch.delenv("DAGSHUB_USER_TOKEN")
    trained = train_with(DagsHubCallback(), train=False, folder="other")
    with pytest.raises(DeliveryError, match="DagsHub has no login here: set DAGSHUB_USER_TOKEN"):
        trained.trainer.train()
    assert trained.trainer.state.global_step == 0


def test_it_takes_the_place_of_mlflow_where_the_address_is_dagshub_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attached() -> set[str]:
        choices = resolve_report_to(None, Registry(), {})
        return {choice.name for choice in choices if choice.attached} & {"dagshub", "mlflow"}

    assert attached() == set()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://dagshub.com/ada/engine.mlflow")
    assert attached() == {"dagshub"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert attached() == {"mlflow"}
    assert issubclass(DagsHubCallback, MLflowCallback)
    everything: list[Any] = resolve_report_to("all", Registry(), {})
    assert "dagshub" not in {choice.name for choice in everything if choice.attached}
