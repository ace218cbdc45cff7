"""What MLflow has of a run: read from its database and its artifact folder."""

from __future__ import annotations

import importlib
import math
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from stepbus import (
    ArgumentError,
    DeliveryError,
    EventBus,
    MLflowCallback,
    TensorBoardCallback,
    TrainerCallback,
)
from stepbus.bus.registry import Registry, resolve_report_to
from stepbus.schemas import TrainerState
from tests.subscribers.test_in_a_sidecar import kill_the_sidecar
from tests.subscribers.test_tensorboard import scalars
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.trackers.mlflow_server import MLflowServer
from tests.subscribers.trackers.reading.mlflow import StoredRun, once, stored_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # mlflow's own, as it is imported in this process
]


class InThread(MLflowCallback):
    """Imports mlflow once for many tests."""

    delivery = "thread"


@pytest.fixture
def place(tmp_path: Path, empty_database: Path) -> Any:
    """Makes an output folder in which there is a database."""

    def make(folder: str = "out") -> Path:
        (tmp_path / folder).mkdir()
        database = tmp_path / folder / "mlflow.db"
        shutil.copy(empty_database, database)
        return database

    return make


class KillsTheSidecar(TrainerCallback):
    """In the middle of a training, once the sidecar has what came before."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 4:
            assert self.trainer.bus.flush(60)
            kill_the_sidecar()


def only(database: Path) -> StoredRun:
    (run,) = stored_runs(database)
    return run


def test_a_training_is_there_whole_when_train_returns(
    train_with: TrainWith, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TAGS", '{"team": "x"}')
    monkeypatch.setenv("HF_MLFLOW_LOG_ARTIFACTS", "1")
    database = place()
    trained = train_with(
        MLflowCallback(),
        train=False,
        save_strategy="steps",
        save_steps=3,
        save_total_limit=1,
    )
    with trained.trainer as trainer:
        trainer.evaluate()
        trainer.add_callback(KillsTheSidecar(trainer))
        trainer.train()
        trainer.log_text("notes/end", "it is done")
        trainer.evaluate(metric_key_prefix="test")
    trained.assert_nothing_failed()
    assert trained.delivery == "process"
    run = only(database)
    where = trainer.tracker("mlflow")
    assert where == {"id": run.run_id, "folder": str(trained.output_dir)}
    assert (run.name, run.status, run.ended) == ("tiny", "FINISHED", True)
    assert run.tags["team"] == "x"
    assert run.tags["stepbus.status"] == "finished"
    # Values under the names that were logged, each once, with the time of their event.
    closing = {name: [(6, value)] for name, value in trained.closing().items()}
    assert once(run.all_points()) == once({**trained.logged(rewritten=False), **closing})
    assert [step for step, _ in run.all_points()["eval_loss"]] == [0, 3, 6]
    stamps = [(step, stamp) for key, step, _, _, stamp in run.rows if key == "loss"]
    at = trained.checkpoints.logged_at
    assert stamps == [(step, int(at[step, "loss"] * 1_000)) for step in range(1, 7)]
    # Every parameter, as text.
    expected = {name: str(_listed(value)) for name, value in trained.params.items()}
    assert {name: run.params.get(name, "missing") for name in expected} == expected
    assert run.params["model/num_parameters"] == "81"
    # Each checkpoint, though rotation has deleted the first.
    assert [path.name for path in trained.output_dir.glob("checkpoint-*")] == ["checkpoint-6"]
    assert run.files() == {
        f"checkpoint-{step}/{path}": data
        for step, files in trained.checkpoints.files.items()
        for path, data in files.items()
    } | {"notes/end/step-6/end.txt": b"it is done"}
    assert trained.output_dir in run.artifacts.parents


def test_attempts_share_a_run_and_repeat_nothing(place: Any, tmp_path: Path) -> None:
    database = place()
    folder = str(tmp_path / "out")
    statuses = []
    for attempt in (1, 2):
        with EventBus() as bus:
            tracker = MLflowCallback(flatten_params=True)
            bus.subscribe(tracker, delivery="thread", required=True)
            state = TrainerState(global_step=10 * (attempt - 1))
            link = bus.open_run(state, run_id="r", attempt=attempt)
            arguments = {"seed": 1, "max_steps": 10 * attempt, "long": "x" * 7_000, "a": {"b": 1}}
            if attempt == 2:
                arguments["new"] = True
            link.emit("init_end", {"output_dir": folder})
            link.emit("train_begin", {"output_dir": folder, "arguments": arguments})
            for step in range(10 * attempt - 9, 10 * attempt + 1):
                state.global_step = step
                logs = {"loss": float(step), "odd (name)": math.nan if step == 5 else 1.0}
                link.emit("log", {"logs": logs})
            if attempt == 1:
                assert bus.flush(60)
                statuses.append(only(database).status)
                values = {"error": "ValueError", "message": "m", "traceback": ""}
                link.emit("run_failed", values)
            else:
                link.emit("train_end", {"status": "stopped", "reason": "why", "stopped_by": "me"})
            assert bus.flush(60)
            assert bus.ledger["MLflowCallback"].failures == 0
        statuses.append(only(database).status)
    assert statuses == ["RUNNING", "FAILED", "FINISHED"]
    run = only(database)
    points = run.all_points()
    assert points["loss"] == [(step, float(step)) for step in range(1, 21)]
    assert math.isnan(points["odd _name_"][4][1])
    assert len(points["odd _name_"]) == 20
    assert (run.params["max_steps"], run.params["new"]) == ("10", "True")
    assert (run.params["a/b"], len(run.params["long"])) == ("1", 6_000)
    assert {name: run.tags[f"stepbus.{name}"] for name in ("status", "reason", "stopped_by")} == {
        "status": "stopped",
        "reason": "why",
        "stopped_by": "me",
    }


def test_a_run_that_the_script_has_open_is_used_or_has_one_inside_and_there_are_no_others(
    train_with: TrainWith, place: Any, caplog: pytest.LogCaptureFixture
) -> None:
    mlflow: Any = importlib.import_module("mlflow")
    database = place("own")
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    try:
        with mlflow.start_run(run_name="own") as own:
            trained = train_with(MLflowCallback())
            assert trained.delivery == "thread"
            assert "the script has a run of mlflow open" in caplog.text
            assert trained.trainer.tracker("mlflow")["id"] == own.info.run_id
            trained.trainer.evaluate(metric_key_prefix="test")
            assert only(database).status == "RUNNING"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MLFLOW_NESTED_RUN", "1")
                inside = train_with(MLflowCallback(), folder="inside", max_steps=2)
                inside.trainer.evaluate(metric_key_prefix="test")
            assert mlflow.active_run().info.run_id == own.info.run_id
            runs = {run.run_id: run for run in stored_runs(database)}
            outer = runs.pop(own.info.run_id)
            (inner,) = runs.values()
            assert (outer.status, inner.status) == ("RUNNING", "FINISHED")
    finally:
        mlflow.set_tracking_uri(None)
    assert inner.tags["mlflow.parentRunId"] == own.info.run_id
    assert inner.run_id == inside.trainer.tracker("mlflow")["id"]
    assert inner.all_points()["loss"] == inside.logged(rewritten=False)["loss"]
    outer = next(run for run in stored_runs(database) if run.name == "own")
    assert outer.status == "FINISHED"
    assert outer.all_points()["loss"] == trained.logged(rewritten=False)["loss"]
    assert [step for step, _ in outer.all_points()["test_loss"]] == [6]
    assert outer.params["seed"] == "42"


def test_what_cannot_work_is_an_error_before_the_first_step(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = FailingWay(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", way.address)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trained = train_with(InThread(), train=False)
    with pytest.raises(DeliveryError, match=f"The MLflow server at {way.address} cannot be used"):
        trained.trainer.train()
    assert trained.trainer.state.global_step == 0
    way.refuse()
    monkeypatch.setenv("MLFLOW_TAGS", "no json")
    with pytest.raises(ArgumentError, match="MLFLOW_TAGS is 'no json'"):
        train_with(MLflowCallback(), folder="other")


def test_it_is_set_up_where_it_is_told_where_and_can_be_disabled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not MLflowCallback.is_set_up()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "e")
    assert MLflowCallback.is_set_up()
    monkeypatch.setenv("DISABLE_MLFLOW_INTEGRATION", "TRUE")
    choices = resolve_report_to(None, Registry(), {})
    assert [(c.attached, c.reason) for c in choices if c.name == "mlflow"] == [
        (False, "DISABLE_MLFLOW_INTEGRATION is set")
    ]
    with pytest.raises(ArgumentError, match="'mlflow' was asked for, and DISABLE_MLFLOW_INTEGR"):
        resolve_report_to("mlflow", Registry(), {})


def test_a_server_that_is_gone_for_a_while_gets_everything_once(
    mlflow_server: MLflowServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, database, _ = mlflow_server
    way = FailingWay(port)
    folder = str(tmp_path)
    with EventBus() as bus:
        tracker = MLflowCallback(tracking_uri=way.address, experiment_name="gone")
        bus.subscribe(tracker, delivery="thread", required=True)
        bus.wait_ready()
        state = TrainerState()
        link = bus.open_run(state, run_id="gone")
        link.emit("train_begin", {"output_dir": folder, "arguments": {"seed": 1}})

        def log(first: int, last: int) -> None:
            for step in range(first, last + 1):
                state.global_step = step
                link.emit("log", {"logs": {"loss": float(step)}})

        log(1, 20)
        assert bus.flush(60)
        way.refuse()
        log(21, 2_500)
        deadline = time.monotonic() + 60
        while "gets no answer" not in caplog.text:
            assert time.monotonic() < deadline, caplog.text
            time.sleep(0.05)
        way.accept()
        log(2_501, 2_510)
        link.emit("train_end")
        assert bus.flush(60)
        assert bus.ledger["MLflowCallback"].failures == 0
    run = next(run for run in stored_runs(database) if run.tags.get("stepbus.run_id") == "gone")
    assert run.all_points()["loss"] == [(step, float(step)) for step in range(1, 2_511)]
    assert run.status == "FINISHED"
    assert "MLflowCallback is answered again" in caplog.text
    assert caplog.text.count("gets no answer") == 1


def test_what_a_server_does_not_get_until_the_deadline_is_named(
    mlflow_server: MLflowServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    port, database, _ = mlflow_server
    way = FailingWay(port)
    bus = EventBus(drain_timeout=1.0)
    with bus:
        tracker = MLflowCallback(tracking_uri=way.address)
        bus.subscribe(tracker, delivery="thread", required=True)
        bus.wait_ready()
        state = TrainerState(global_step=1)
        link = bus.open_run(state, run_id="lost")
        link.emit("train_begin", {"output_dir": str(tmp_path)})
        assert bus.flush(60)
        way.refuse()
        link.emit("log", {"logs": {"loss": 1.0}})
        deadline = time.monotonic() + 60
        while "gets no answer" not in caplog.text:
            assert time.monotonic() < deadline, caplog.text
            time.sleep(0.05)
        for step in range(2, 5):
            state.global_step = step
            link.emit("log", {"logs": {"loss": float(step)}})
        link.emit("train_end")
    assert "1 values of steps 1 to 1 are not delivered" in caplog.text
    assert "events that were not delivered by the deadline: MLflowCallback: 4" in caplog.text
    assert "Traceback" not in caplog.text
    run = next(run for run in stored_runs(database) if run.tags.get("stepbus.run_id") == "lost")
    assert (run.all_points(), run.status) == ({}, "RUNNING")


def _listed(value: Any) -> Any:
    """As a dict and a list are written out, whatever an event keeps them as."""
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def test_a_server_that_falls_silent_holds_up_neither_the_end_nor_the_others(
    mlflow_server: MLflowServer,
    train_with: TrainWith,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    port, _, _ = mlflow_server
    way = FailingWay(port)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", way.address)
    trained = train_with(MLflowCallback(), train=False, drain_timeout_s=3.0, max_steps=60)
    board = TensorBoardCallback(tmp_path / "board")
    trained.trainer.add_callback(board)

    class Silences(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 20:
                assert trained.trainer.bus.flush(60)
                way.fall_silent()

    trained.trainer.add_callback(Silences())
    trained.trainer.train()
    ended = time.time()
    last = trained.checkpoints.logged_at[60, "loss"]
    # The deadline, and what a process that does not end by itself is given to be ended.
    assert ended - last < 3.0 + 12.0
    rows = {row.subscriber: row for row in trained.trainer.ledger}
    assert rows["MLflowCallback"].trouble
    assert not rows["TensorBoardCallback"].trouble
    expected = [step for step, _ in trained.logged()["train/loss"]]
    assert [step for step, _ in scalars(tmp_path / "board", "train/loss")] == expected
    assert any("MLflowCallback" in line for line in trained.trainer.ledger.troubles)
