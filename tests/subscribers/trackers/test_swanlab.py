"""What SwanLab has of a run: read from the offline files that it wrote."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stepbus import DeliveryError, EventBus, SwanLabCallback
from stepbus.schemas import TrainerState
from tests.subscribers.test_in_a_sidecar import kill_the_sidecar
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.trackers.reading.swanlab import offline_runs

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    monkeypatch.setenv("SWANLAB_SAVE_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("SWANLAB_PROBE_MONITOR", "false")
    monkeypatch.setenv("SWANLAB_PROBE_REQUIREMENTS", "false")


def first_of_each_step(points: dict[str, list[tuple[int, float]]]) -> Any:
    """What SwanLab keeps: one value of a name and step."""
    kept: dict[str, dict[int, float]] = {}
    for name, rows in points.items():
        for step, value in rows:
            kept.setdefault(name, {}).setdefault(step, value)
    return {name: list(rows.items()) for name, rows in kept.items()}


def test_a_training_is_there_whole_when_train_returns(
    train_with: TrainWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWANLAB_PROJECT", "mine")
    trained = train_with(SwanLabCallback(group="g", tags=["a"]), train=False)
    picture = io.BytesIO()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(picture, "PNG")
    (tmp_path / "config.yaml").write_text("seed: 1")
    with trained.trainer as trainer:
        trainer.evaluate()
        trainer.train()
        trainer.log_text("notes/end", "it is done")
        trainer.log_image("pictures/first", picture.getvalue())
        trainer.log_table("table", [{"id": 1, "note": "x"}, {"id": 2, "note": "y"}])
        trainer.log_file(tmp_path / "config.yaml", "configs/main")
        trainer.evaluate(metric_key_prefix="test")
    trained.assert_nothing_failed()
    assert trained.delivery == "process"
    (run,) = offline_runs(trained.output_dir)
    where = trainer.tracker("swanlab")
    assert where == {"id": trainer.run_id, "folder": str(run.folder)}
    (start,) = run.of("start")
    assert (start.project, start.name, start.group) == ("mine", "tiny", "g")
    assert list(start.tags) == ["a"]
    assert (run.run_id, run.state) == (trainer.run_id, "FINISHED")
    # Every value of every step, exact; of two of a name and step the first.
    expected = first_of_each_step(trained.logged())
    for name, value in trained.closing().items():
        expected[f"single_value/{name}"] = [(6, value)]
    points = run.all_points()
    assert points == expected
    assert [step for step, _ in points["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in points["eval/loss"]] == [0, 3, 6]
    # Every parameter, and how it ended.
    wanted = json.loads(json.dumps(trained.params))
    wanted = {name: "None" if value is None else value for name, value in wanted.items()}
    assert {name: run.config.get(name, "missing") for name in wanted} == wanted
    assert run.config["model/num_parameters"] == 81
    assert run.config["stepbus/status"] == "finished"
    # What was logged besides.
    assert {record.step for record in run.of("media")} == {6}
    media = {record.key: record.value.items[0].filename for record in run.of("media")}
    found = {path.name: path for path in (run.folder / "media").rglob("*") if path.is_file()}
    assert found[media["notes/end"]].read_text() == "it is done"
    assert Image.open(found[media["pictures/first"]]).getpixel((0, 0)) == (1, 2, 3)
    table = json.loads(found[media["table"]].read_text())
    assert table["rowData"] == [{"id": 1, "note": "x"}, {"id": 2, "note": "y"}]
    (saved,) = (record for record in run.of("save") if "main" in record.name)
    assert (run.folder / "files" / saved.name).read_text() == "seed: 1"
    # All that it wrote is in the run's folder.
    assert not (tmp_path / "swanlog").exists()


@pytest.mark.filterwarnings("ignore")  # swanlab's own, where it is in this process
def test_attempts_sessions_and_replacements_are_folders_of_one_run(tmp_path: Path) -> None:
    folder = str(tmp_path / "out")
    for attempt in (1, 2):
        with EventBus() as bus:
            where: Any = "process" if attempt == 2 else "thread"
            bus.subscribe(SwanLabCallback(project="p"), delivery=where, required=True)
            state = TrainerState(global_step=10 * (attempt - 1))
            link = bus.open_run(state, run_id="r", attempt=attempt)
            arguments = {"seed": 1, "max_steps": 10 * attempt}
            link.emit("init_end", {"output_dir": folder})
            link.emit("train_begin", {"output_dir": folder, "arguments": arguments})
            for step in range(10 * attempt - 9, 10 * attempt + 1):
                state.global_step = step
                value = math.nan if step == 5 else math.inf if step == 6 else 1 / step
                link.emit("log", {"logs": {"loss": value, "word": "x"}})
                if step == 15:
                    assert bus.flush(60)
                    kill_the_sidecar()
            if attempt == 1:
                values = {"error": "ValueError", "message": "m", "traceback": ""}
                link.emit("run_failed", values)
            else:
                link.emit("train_end", {"status": "stopped", "reason": "why", "stopped_by": "me"})
            assert bus.flush(60)
            assert bus.ledger["SwanLabCallback"].failures == 0
    runs = offline_runs(tmp_path / "out")
    assert [(run.run_id, run.state) for run in runs] == [
        ("r", "CRASHED"),
        ("r", ""),
        ("r", "FINISHED"),
    ]
    losses = [point for run in runs for point in run.all_points()["train/loss"]]
    assert [step for step, _ in losses] == list(range(1, 21))
    assert (math.isnan(losses[4][1]), losses[5][1]) == (True, math.inf)
    assert losses[6:] == [(step, 1 / step) for step in range(7, 21)]
    assert [run.config["max_steps"] for run in runs] == [10, 20, 20]
    assert runs[0].of("finish")[0].error == "ValueError: m"
    assert runs[0].config["stepbus/reason"] == "ValueError: m"
    told = {name: runs[2].config[f"stepbus/{name}"] for name in ("status", "reason", "stopped_by")}
    assert told == {"status": "stopped", "reason": "why", "stopped_by": "me"}


@pytest.mark.filterwarnings("ignore")  # swanlab's own, in this process for once
def test_two_runs_at_once_do_not_mix_and_leave_nothing_behind(tmp_path: Path) -> None:
    import swanlab

    hook = sys.excepthook
    with EventBus() as bus:
        bus.subscribe(SwanLabCallback(), delivery="thread", required=True)
        links = {}
        for name in ("one", "two"):
            links[name] = bus.open_run(TrainerState(), run_id=name)
            values = {"output_dir": str(tmp_path / name), "arguments": {"which": name}}
            links[name].emit("train_begin", values)
        for step in range(1, 6):
            for factor, name in enumerate(links, 1):
                links[name].state.global_step = step
                links[name].emit("log", {"logs": {"loss": float(step * factor)}})
        links["one"].emit("train_end")
        links["two"].emit("run_failed", {"error": "E", "message": "m", "traceback": ""})
        assert bus.flush(60)
        assert bus.ledger["SwanLabCallback"].failures == 0
    for factor, (name, state) in enumerate({"one": "FINISHED", "two": "CRASHED"}.items(), 1):
        (run,) = offline_runs(tmp_path / name)
        assert (run.run_id, run.config["which"], run.state) == (name, name, state)
        assert run.all_points() == {"train/loss": [(n, float(n * factor)) for n in range(1, 6)]}
    assert not swanlab.has_run()
    assert sys.excepthook is hook


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_the_script_has_open_is_used_and_left_open(
    train_with: TrainWith, tmp_path: Path
) -> None:
    import swanlab

    class InThread(SwanLabCallback):
        delivery = "thread"

    own = swanlab.init(project="own", log_dir=str(tmp_path / "swanlog"), mode="offline")
    try:
        trained = train_with(InThread())
        assert trained.trainer.tracker("swanlab")["id"] == own.id
        assert swanlab.get_run() is own
        own.log({"more": 1}, step=9)
    finally:
        own.finish()
    (run,) = offline_runs(tmp_path)
    points = run.all_points()
    assert points["more"] == [(9, 1)]
    assert points["train/loss"] == trained.logged()["train/loss"]
    assert run.config["seed"] == 42
    assert not (trained.output_dir / "swanlog").exists()


def test_what_cannot_work_is_an_error_before_the_first_step(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train_with(SwanLabCallback(mode="online"), train=False)
    with pytest.raises(DeliveryError, match="swanlab has no key, and cannot be online without"):
        trained.trainer.train()
    assert trained.trainer.state.global_step == 0
    with pytest.raises(DeliveryError, match="SwanLab's mode 'local' needs its dashboard"):
        train_with(SwanLabCallback(mode="local"), folder="local")
    monkeypatch.setenv("SWANLAB_MODE", "sometimes")
    with pytest.raises(DeliveryError, match="SwanLab does not take its settings"):
        train_with(SwanLabCallback(), folder="other")


def test_a_server_that_never_answers_costs_no_value(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = FailingWay(None)
    monkeypatch.setenv("SWANLAB_MODE", "online")
    monkeypatch.setenv("SWANLAB_API_KEY", "k" * 21)
    monkeypatch.setenv("SWANLAB_API_HOST", way.address)
    trained = train_with(SwanLabCallback(), eval_strategy="no")
    (run,) = offline_runs(trained.output_dir)
    assert run.all_points()["train/loss"] == trained.logged()["train/loss"]
    assert (run.run_id, run.state) == (trained.trainer.run_id, "FINISHED")


def test_it_is_set_up_where_it_has_a_key_or_needs_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert SwanLabCallback.is_set_up()
    monkeypatch.delenv("SWANLAB_MODE")
    assert not SwanLabCallback.is_set_up()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".netrc").write_text("machine x login y password z")
    assert SwanLabCallback.is_set_up()
    monkeypatch.setenv("SWANLAB_MODE", "disabled")
    assert not SwanLabCallback.is_set_up()
