"""What Comet has of a run: read from the archives that it wrote."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stepbus import ArgumentError, CometCallback, DeliveryError, EventBus
from stepbus.schemas import TrainerState
from tests.subscribers.test_in_a_sidecar import kill_the_sidecar
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.trackers.reading.comet import archives

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose listing takes matplotlib, which Comet imports, seconds."""
    return tmp_path_factory.mktemp("fonts")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fonts: Path) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", str(fonts))
    monkeypatch.setenv("COMET_START_ONLINE", "0")
    monkeypatch.chdir(tmp_path)


def test_a_training_and_what_is_around_it_are_one_experiment_and_whole(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMET_PROJECT_NAME", "own")
    monkeypatch.setenv("COMET_WORKSPACE", "team")
    monkeypatch.setenv("COMET_LOG_ASSETS", "TRUE")
    tracker = CometCallback(tags=["a"])
    trained = train_with(
        tracker, train=False, save_strategy="steps", save_steps=3, save_total_limit=1
    )
    hook, imported = sys.excepthook, "comet_ml" in sys.modules
    variables = {name for name in os.environ if name.startswith("COMET_")}
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(buffer, "JPEG")
    file = tmp_path / "config.yaml"
    file.write_text("seed: 1")
    with trained.trainer as trainer:
        trainer.evaluate()
        trainer.train()
        trainer.log_text("sample", "a <b> c\n")
        trainer.log_image("pictures/small", buffer.getvalue())
        trainer.log_table("rows", [{"id": 1, "note": "x"}, {"id": 2, "note": None}])
        trainer.log_file(file, "configs/main")
        trainer.log({"odd": math.nan, "remark": "a text"})
        predicted = trainer.predict(trainer.eval_dataset).metrics
    trained.assert_nothing_failed()
    # In the process of the training nothing was imported or changed.
    assert (trained.delivery, "comet_ml" in sys.modules) == ("process", imported)
    assert sys.excepthook is hook
    assert {name for name in os.environ if name.startswith("COMET_")} == variables
    where = trainer.tracker("comet_ml")
    (run,) = archives(trained.output_dir / "comet")
    assert where == {"id": run.key, "folder": str(trained.output_dir / "comet")}
    assert (run.about["project_name"], run.about["workspace"]) == ("own", "team")
    assert (run.others["Name"], run.about["tags"]) == ("tiny", ["a"])
    # Every parameter, as JSON has it; nested ones by one name each.
    expected = json.loads(json.dumps(trained.params))
    inner = expected.pop("inner")
    assert run.params["inner|bias"] == inner["bias"]
    found = {name: run.params.get(name, "missing") for name in expected}
    assert found == {name: "{}" if v == {} else v for name, v in expected.items()}
    assert run.params["model/num_parameters"] == 81
    # Every value of every step, exact.
    logged: dict[str, Any] = trained.logged()
    assert logged.pop("train/remark") == [(6, "a text")]
    assert run.others["train/remark"] == "a text"
    assert math.isnan(logged.pop("train/odd")[0][1])
    assert [(step, math.isnan(value)) for step, value in run.points.pop("train/odd")] == [(6, True)]
    for name, value in {**trained.closing()}.items():
        logged[f"train/{name}"] = [(6, value)]
    for name, value in (predicted or {}).items():
        logged.setdefault(f"test/{name.removeprefix('test_')}", []).append((6, value))
    assert run.points == logged
    assert [step for step, _ in run.points["eval/loss"]] == [0, 3, 6]
    assert run.epochs["eval/loss"] == [0, 0.5, 1.0]
    assert run.others["stepbus/status"] == "finished"
    assert not run.about["customer_error_reported"]
    # Each checkpoint, though rotation has deleted the first, and what was logged by hand.
    assert [path.name for path in trained.output_dir.glob("checkpoint-*")] == ["checkpoint-6"]
    checkpoints = {n: data for n, data in run.assets.items() if n.startswith("checkpoint-")}
    assert checkpoints == {
        f"checkpoint-{step}/{path}": data
        for step, files in trained.checkpoints.files.items()
        for path, data in files.items()
    }
    assert run.assets["sample"] == b"a <b> c\n"
    assert run.assets["pictures/small"] == buffer.getvalue()
    assert run.assets["configs/main/step-6/main.yaml"] == b"seed: 1"
    table = list(csv.reader(io.StringIO(run.assets["rows/step-6.csv"].decode())))
    assert table == [["id", "note"], ["1", "x"], ["2", ""]]
    assert {run.details[name]["step"] for name in ("sample", "pictures/small")} == {6}
    # Nothing of Comet's is anywhere but in the run's folder.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "out"]


def test_attempts_a_killed_process_and_two_runs_at_once_lose_nothing_without_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    way = FailingWay(None)
    monkeypatch.setenv("COMET_START_ONLINE", "1")
    monkeypatch.setenv("COMET_API_KEY", "k" * 25)
    monkeypatch.setenv("COMET_URL_OVERRIDE", way.address)
    folders = {name: tmp_path / name for name in ("one", "two")}
    for attempt in (1, 2):
        with EventBus() as bus:
            bus.subscribe(CometCallback(), delivery="process", required=True)
            bus.wait_ready()
            links: dict[str, Any] = {}
            for name, folder in folders.items():
                links[name] = bus.open_run(TrainerState(), run_id=name, attempt=attempt)
                arguments = {"seed": 7, "max_steps": 10 * attempt, "which": name}
                links[name].emit("init_end", {"output_dir": str(folder)})
                values = {"output_dir": str(folder), "arguments": arguments}
                links[name].emit("train_begin", values)
            for step in range(10 * attempt - 9, 10 * attempt + 1):
                for factor, link in enumerate(links.values(), 1):
                    link.state.global_step = step
                    link.emit("log", {"logs": {"loss": float(step * factor)}})
                if step == 15:
                    assert bus.flush(30)
                    kill_the_sidecar()
            for link in links.values():
                if attempt == 1:
                    link.emit("run_failed", {"error": "E", "message": "m", "traceback": ""})
                else:
                    values = {"status": "stopped", "reason": "why", "stopped_by": "me"}
                    link.emit("train_end", values)
            assert bus.flush(30)
            row = bus.ledger["CometCallback"]
            assert (row.failures, row.quarantined) == (0, "")
        assert bool(way.connections) == (attempt == 1)
        reason = "timed out" if attempt == 1 else "[Errno 111] Connection refused"
        assert f"Comet cannot be used ({way.address}/ does not answer: {reason}" in caplog.text
        assert "nothing is delivered to it" in caplog.text
        way.refuse()
        way.connections = 0
    keys = set()
    for factor, (name, folder) in enumerate(folders.items(), 1):
        first, left, last = runs = archives(folder / "comet")
        assert first.key == left.key == last.key
        keys.add(first.key)
        points = [point for run in runs for point in run.points["train/loss"]]
        assert points == [(step, float(step * factor)) for step in range(1, 21)]
        # Parameters are written once, and those that have changed.
        assert [run.params.get("which") for run in runs] == [name, None, None]
        assert left.params["max_steps"] == 20
        assert first.others["stepbus/status"] == "failed"
        assert first.about["customer_error_message"] == "E: m"
        assert "stepbus/status" not in left.others
        assert {k: v for k, v in last.others.items() if k.startswith("stepbus/")} == {
            "stepbus/status": "stopped",
            "stepbus/reason": "why",
            "stepbus/stopped_by": "me",
        }
        assert {run.about["resume_strategy"] for run in runs} == {"get_or_create"}
        assert not list((folder / "trackers").glob("*.unfinished"))
    assert len(keys) == 2


def test_what_cannot_work_is_an_error_before_the_first_step(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArgumentError, match="mode is 'gett': it must be one of 'get_or_create'"):
        CometCallback(mode="gett")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="there is no experiment to get"):
        train_with(CometCallback(mode="get"))
    monkeypatch.setenv("COMET_START_ONLINE", "1")
    trained = train_with(CometCallback(), train=False, folder="other")
    with pytest.raises(DeliveryError, match="Comet has no key: run `comet login`"):
        trained.trainer.train()
    assert trained.trainer.state.global_step == 0
    monkeypatch.setenv("COMET_MODE", "offline")
    with pytest.raises(ArgumentError, match=r"COMET_MODE is 'offline'.*COMET_START_ONLINE=0"):
        train_with(CometCallback(), folder="third")


def test_it_is_set_up_where_it_has_a_key_or_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert CometCallback.is_set_up()
    monkeypatch.delenv("COMET_START_ONLINE")
    assert not CometCallback.is_set_up()
    monkeypatch.setenv("COMET_API_KEY", "k")
    assert CometCallback.is_set_up()
    monkeypatch.delenv("COMET_API_KEY")
    monkeypatch.setenv("COMET_MODE", "DISABLED")
    assert CometCallback.why_not() == "COMET_MODE is DISABLED"
    config = tmp_path / "settings"
    config.write_text("[comet]\napi_key = k\n")
    monkeypatch.setenv("COMET_CONFIG", str(config))
    assert CometCallback.is_set_up()
