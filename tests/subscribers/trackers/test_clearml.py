"""What ClearML has of a run: read from the offline sessions that it wrote."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stepbus import ClearMLCallback, DeliveryError, EventBus, TrainerCallback
from stepbus.schemas import TrainerState
from stepbus.subscribers.trackers.experiment import CLOSING
from tests.subscribers.test_in_a_sidecar import kill_the_sidecar
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.trackers.forks_watched import ForksWatched
from tests.subscribers.trackers.reading.clearml import files_of, sessions

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLEARML_OFFLINE_MODE", "1")
    monkeypatch.chdir(tmp_path)


class Children(TrainerCallback):
    """The processes that the training has while it trains."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        threads = Path("/proc/self/task").iterdir()
        self.seen.update(pid for t in threads for pid in (t / "children").read_text().split())


def test_a_training_and_what_is_around_it_are_one_task_without_forks_or_handlers(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLEARML_PROJECT", "own")
    monkeypatch.setenv("CLEARML_TASK", "named")
    tracker = ClearMLCallback(tags=["a"])
    trained = train_with(
        tracker, train=False, save_strategy="steps", save_steps=3, save_total_limit=1
    )
    children, file = Children(), tmp_path / "config.yaml"
    trained.trainer.add_callback(children)
    watched = tmp_path / "seen.json"
    trained.trainer.bus.subscribe(ForksWatched(str(watched)), delivery="process")
    file.write_text("seed: 1")
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(buffer, "JPEG")
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT)
    handlers = [signal.getsignal(number) for number in numbers]
    process, imported = (sys.excepthook, sys.exit, os.fork), "clearml" in sys.modules
    with trained.trainer as trainer:
        trainer.evaluate()
        trainer.train()
        assert trainer.bus.flush(60)
        trainer.log_text("sample", "a <b> c\n")
        trainer.log_image("pictures/small", buffer.getvalue())
        trainer.log_table("rows", [{"id": 1, "note": "x"}, {"id": 2, "note": "y"}])
        trainer.log_file(file, "configs/main")
        trainer.log({"odd": math.nan, "remark": "a text"})
        predicted = trainer.predict(trainer.eval_dataset).metrics
    trained.assert_nothing_failed()
    assert (trained.delivery, "clearml" in sys.modules) == ("process", imported)
    # The training has no child but the sidecar, whose process ClearML leaves as it was.
    assert len(children.seen) == 1
    assert [signal.getsignal(number) for number in numbers] == handlers
    assert (sys.excepthook, sys.exit, os.fork) == process
    assert json.loads(watched.read_text()) == {"forks": 0, "children": [], "changed": []}
    (run,) = sessions(trained.output_dir / "clearml")
    assert run.is_closed
    folder = trained.output_dir / "clearml" / "offline" / run.task_id
    assert trainer.tracker("clearml") == {"id": run.task_id, "folder": str(folder)}
    assert (run.about["project_name"], run.about["name"]) == ("own", "named")
    assert run.about["tags"] == ["a"]
    # Every parameter, as text.
    params = run.params("Transformers")
    expected = {**trained.params, "inner/bias": True, "model/num_parameters": 81}
    del expected["inner"]
    assert {name: params.get(name, "missing") for name in expected} == {
        name: _text(value) for name, value in expected.items()
    }
    assert "model_type" in run.configuration("Model Configuration")
    # Every value of every step, exact.
    logged = trained.logged()
    del logged["train/remark"], logged["train/odd"]
    for name, value in (predicted or {}).items():
        logged.setdefault(f"test/{name.removeprefix('test_')}", []).append((6, value))
    assert run.points == logged
    assert [step for step, _ in run.points["eval/loss"]] == [0, 3, 6]
    assert run.singles == {name: trained.closing()[name] for name in CLOSING}
    assert {"train/odd at step 6: nan", "train/remark at step 6: a text"} <= set(run.lines)
    assert run.params("stepbus") == {
        "run_id": trainer.run_id,
        "attempt": "1",
        "status": "finished",
    }
    # Each checkpoint, though rotation has deleted the first, and what was logged by hand.
    assert [path.name for path in trained.output_dir.glob("checkpoint-*")] == ["checkpoint-6"]
    artifacts = run.artifacts()
    for step, files in trained.checkpoints.files.items():
        assert files_of(artifacts.pop(f"checkpoint-{step}")) == files
    table = json.loads(artifacts.pop("rows/step-6"))
    assert table == {"columns": ["id", "note"], "rows": [[1, "x"], [2, "y"]]}
    assert artifacts == {
        "sample/step-6": b"a <b> c\n",
        "pictures/small/step-6": buffer.getvalue(),
        "configs/main/step-6": b"seed: 1",
    }
    assert run.plots["rows/rows"][0] == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "out", "seen.json"]


def test_attempts_a_killed_process_and_two_runs_at_once_lose_nothing_without_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    way = FailingWay(None)
    monkeypatch.delenv("CLEARML_OFFLINE_MODE")
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "k")
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "s")
    monkeypatch.setenv("CLEARML_API_HOST", way.address)
    folders = {name: tmp_path / name for name in ("one", "two")}
    for attempt in (1, 2):
        with EventBus() as bus:
            bus.subscribe(ClearMLCallback(), delivery="process", required=True)
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
                    assert bus.flush(60)
                    kill_the_sidecar()
            for link in links.values():
                if attempt == 1:
                    link.emit("run_failed", {"error": "E", "message": "m", "traceback": ""})
                else:
                    values = {"status": "stopped", "reason": "why", "stopped_by": "me"}
                    link.emit("train_end", values)
            assert bus.flush(60)
            row = bus.ledger["ClearMLCallback"]
            assert (row.failures, row.quarantined) == (0, "")
        assert bool(way.connections) == (attempt == 1)
        reason = "timed out" if attempt == 1 else "[Errno 111] Connection refused"
        assert f"ClearML cannot be used ({way.address} does not answer: {reason}" in caplog.text
        assert "nothing is delivered to it" in caplog.text
        way.refuse()
        way.connections = 0
    for factor, (name, folder) in enumerate(folders.items(), 1):
        runs = sessions(folder / "clearml")
        # ClearML imports the folder of one that was not closed like an archive.
        assert [run.is_closed for run in runs] == [True, False, True]
        points = [point for run in runs for point in run.points["train/loss"]]
        assert points == [(step, float(step * factor)) for step in range(1, 21)]
        params = [run.params("Transformers") for run in runs]
        assert [found.get("which") for found in params] == [name, None, None]
        assert params[1]["max_steps"] == "20"
        told = [run.params("stepbus") for run in runs]
        assert [found["run_id"] for found in told] == [name] * 3
        assert (told[0]["status"], told[0]["reason"]) == ("failed", "E: m")
        assert "status" not in told[1]
        assert (told[2]["status"], told[2]["reason"]) == ("stopped", "why")
        assert told[2]["stopped_by"] == "me"
    assert "an offline session cannot be continued" in caplog.text


def test_what_cannot_work_is_an_error_before_the_first_step(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLEARML_OFFLINE_MODE")
    trained = train_with(ClearMLCallback(), train=False)
    with pytest.raises(DeliveryError, match="ClearML has no key: run `clearml-init`"):
        trained.trainer.train()
    assert trained.trainer.state.global_step == 0


def test_it_is_set_up_where_it_has_a_key_or_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert ClearMLCallback.is_set_up()
    monkeypatch.delenv("CLEARML_OFFLINE_MODE")
    assert not ClearMLCallback.is_set_up()
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "k")
    assert not ClearMLCallback.is_set_up()
    monkeypatch.setenv("CLEARML_API_SECRET_KEY", "s")
    assert ClearMLCallback.is_set_up()
    monkeypatch.delenv("CLEARML_API_SECRET_KEY")
    settings = tmp_path / "clearml.conf"
    settings.write_text('api { credentials { "access_key" = "k" } }')
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(settings))
    assert ClearMLCallback.is_set_up()


def _text(value: Any) -> str:
    """As ClearML writes a parameter."""
    if isinstance(value, dict):
        return str(dict(value))
    return "" if value is None else str(list(value) if isinstance(value, tuple) else value)
