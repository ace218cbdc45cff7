"""What Trackio has of a run: read from its database, here or behind its own server."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from stepbus import ArgumentError, DeliveryError, EventBus, TrackioCallback, TrainerCallback
from stepbus.schemas import TrainerState
from stepbus.subscribers.trackers.trackio import _store
from tests.subscribers.test_in_a_sidecar import kill_the_sidecar
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.trackers.reading.trackio import StoredRun, stored_runs

pytestmark = pytest.mark.slow

SERVE = """
import threading, trackio
*_, address = trackio.show(open_browser=False, block_thread=False, share=False, host="127.0.0.1")
print("ADDRESS", address, flush=True)
threading.Event().wait()
"""
DEADLINE_S = 60


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the databases are."""
    for name in ("HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


def only(store: Path) -> StoredRun:
    (run,) = stored_runs(store)
    return run


def test_a_training_is_there_whole_when_train_returns(
    train_with: TrainWith, store: Path, tmp_path: Path
) -> None:
    trained = train_with(TrackioCallback(group="g"), train=False)
    picture = io.BytesIO()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(picture, "JPEG")
    (tmp_path / "config.yaml").write_text("seed: 1")
    with trained.trainer as trainer:
        trainer.evaluate()
        trainer.train()
        trainer.log_text("notes/end", "it is *done*")
        trainer.log_image("pictures/first", picture.getvalue())
        trainer.log_table("table", [{"id": 1, "note": "x"}, {"id": 2, "note": None}])
        trainer.log_file(tmp_path / "config.yaml", "configs/main")
        trainer.evaluate(metric_key_prefix="test")
        predicted = trainer.predict(trainer.eval_dataset).metrics
    trained.assert_nothing_failed()
    assert trained.delivery == "process"
    run = only(store)
    where = trainer.tracker("trackio")
    assert where == {"id": trainer.run_id, "name": "tiny", "folder": str(store)}
    assert (run.run_id, run.name) == (trainer.run_id, {"tiny"})
    # Every value of every step, with the time of its event, and what is said once as well.
    expected = trained.logged()
    for name, value in trained.closing().items():
        expected[f"train/{name}"] = [(6, value)]
    for name, value in (predicted or {}).items():
        expected.setdefault(f"test/{name.removeprefix('test_')}", []).append((6, value))
    points = run.all_points()
    assert points == expected
    assert [step for step, _ in points["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in points["eval/loss"]] == [0, 3, 6]
    stamps = [(step, when) for step, metrics, when in run.rows if "train/loss" in metrics]
    at = trained.checkpoints.logged_at
    assert stamps == [
        (step, datetime.fromtimestamp(at[step, "loss"], UTC).isoformat()) for step in range(1, 7)
    ]
    # Every parameter, and how it ended.
    wanted = json.loads(json.dumps(trained.params))
    assert {name: run.config.get(name, "missing") for name in wanted} == wanted
    assert run.config["model/num_parameters"] == 81
    assert (run.config["_Group"], run.config["stepbus/status"]) == ("g", "finished")
    # What was logged besides.
    values = {name: rows[0] for name, rows in run.values().items()}
    assert values["stepbus/status"] == (6, "finished")
    assert values["notes/end"] == (6, {"_type": "trackio.markdown", "_value": "it is *done*"})
    step, image = values["pictures/first"]
    assert (step, (store / "media" / image["file_path"]).read_bytes()) == (6, picture.getvalue())
    assert values["table"][1]["_value"] == [{"id": 1, "note": "x"}, {"id": 2, "note": None}]
    blobs = (path for path in (store / "artifacts").rglob("*") if path.is_file())
    assert [path.read_bytes() for path in blobs] == [b"seed: 1"]


def test_attempts_sessions_and_replacements_share_a_run_and_repeat_nothing(
    store: Path, tmp_path: Path
) -> None:
    folder = str(tmp_path / "out")
    for attempt in (1, 2):
        with EventBus() as bus:
            tracker = TrackioCallback(project="p", auto_log_cpu=False)
            bus.subscribe(tracker, delivery="process", required=True)
            state = TrainerState(global_step=10 * (attempt - 1))
            link = bus.open_run(state, run_id="r", attempt=attempt)
            arguments = {"seed": 1, "max_steps": 10 * attempt, "a": {"b": 1, "c": attempt}}
            link.emit("init_end", {"output_dir": folder})
            link.emit("train_begin", {"output_dir": folder, "arguments": arguments})
            for step in range(10 * attempt - 9, 10 * attempt + 1):
                state.global_step = step
                value = math.nan if step == 5 else math.inf if step == 6 else 1 / step
                link.emit("log", {"logs": {"loss": value, "word": "x", "time": 1.0}})
                if step == 15:
                    assert bus.flush(60)
                    kill_the_sidecar()
            if attempt == 1:
                values = {"error": "ValueError", "message": "m", "traceback": ""}
                link.emit("run_failed", values)
            else:
                link.emit("train_end", {"status": "stopped", "reason": "why", "stopped_by": "me"})
            assert bus.flush(60)
            assert bus.ledger["TrackioCallback"].failures == 0
    (run,) = stored_runs(store, "p")
    assert run.run_id == "r"
    assert len(run.name) == 1  # One that trackio made up, and kept.
    logged = run.values()
    losses = [value for _, value in logged["train/loss"]]
    assert [step for step, _ in logged["train/loss"]] == list(range(1, 21))
    assert (math.isnan(losses[4]), losses[5]) == (True, math.inf)
    assert losses[6:] == [1 / step for step in range(7, 21)]
    assert logged["train/word"] == [(step, "x") for step in range(1, 21)]
    assert (run.config["max_steps"], run.config["a"]) == (20, {"b": 1, "c": 2})
    assert [status for _, status in logged["stepbus/status"]] == ["failed", "stopped"]
    told = {name: run.config[f"stepbus/{name}"] for name in ("status", "reason", "stopped_by")}
    assert told == {"status": "stopped", "reason": "why", "stopped_by": "me"}


def test_two_runs_of_one_name_at_once_do_not_mix(store: Path, tmp_path: Path) -> None:
    with EventBus() as bus:
        tracker = TrackioCallback(name="same")
        bus.subscribe(tracker, delivery="process", required=True)
        links = {}
        for name in ("one", "two"):
            links[name] = bus.open_run(TrainerState(), run_id=name)
            values = {"output_dir": str(tmp_path / name), "arguments": {"which": name}}
            links[name].emit("train_begin", values)
        for step in range(1, 6):
            for factor, name in enumerate(links, 1):
                links[name].state.global_step = step
                links[name].emit("log", {"logs": {"loss": float(step * factor)}})
        for link in links.values():
            link.emit("train_end")
        assert bus.flush(60)
        assert bus.ledger["TrackioCallback"].failures == 0
    runs = stored_runs(store)
    for factor, run in enumerate(runs, 1):
        assert (run.run_id, run.config["which"]) == (("one", "two")[factor - 1],) * 2
        assert run.all_points() == {"train/loss": [(n, float(n * factor)) for n in range(1, 6)]}


@pytest.mark.filterwarnings("ignore")  # trackio's own, in this process for once
def test_a_run_that_the_script_has_open_is_used_and_left_open(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import trackio
    from trackio import context_vars, sqlite_storage, utils

    finish: Any = trackio.finish
    folder = Path(os.environ["TRACKIO_DIR"])
    for module in (utils, sqlite_storage, trackio):
        monkeypatch.setattr(module, "TRACKIO_DIR", folder)
    own = trackio.init(project="own", name="mine", auto_log_cpu=False, embed=False)
    try:
        trained = train_with(TrackioCallback())
        assert trained.delivery == "thread"
        assert "the script has a run of trackio open" in caplog.text
        assert context_vars.current_run.get() is own
        own.log({"more": 1}, step=9)
    finally:
        finish()
    (run,) = stored_runs(folder, "own")
    points = run.all_points()
    assert points.pop("more") == [(9, 1)]
    for name, value in trained.closing().items():
        assert points.pop(f"train/{name}") == [(6, value)]
    assert points == trained.logged()
    assert run.config["seed"] == 42


def test_what_cannot_work_is_an_error_before_the_first_step(
    train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeliveryError, match="Space 'me/board' needs a login to Hugging Face and"):
        train_with(TrackioCallback(), trackio_space_id="me/board")
    with pytest.raises(ArgumentError, match="server_url is 'here:1': it must begin with http"):
        train_with(TrackioCallback(server_url="here:1"), folder="a")
    way = FailingWay(None)
    monkeypatch.setenv("TRACKIO_SERVER_URL", way.address)
    with pytest.raises(ArgumentError, match="' without a write token"):
        train_with(TrackioCallback(), folder="b")
    way.refuse()
    monkeypatch.setenv("TRACKIO_WRITE_TOKEN", "t")
    trained = train_with(TrackioCallback(), folder="c", train=False)
    with pytest.raises(DeliveryError, match=f"The Trackio server at {way.address} cannot be used"):
        trained.trainer.train()
    assert trained.trainer.state.global_step == 0


def test_where_a_database_cannot_be_locked_rows_go_to_files_that_trackio_reads(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trackio import utils

    monkeypatch.setattr(utils, "TRACKIO_DIR", store)
    monkeypatch.setenv("TRACKIO_STORAGE_MODE", "jsonl")
    rows: list[dict[str, Any]] = [
        {
            "project": "p",
            "run": "n",
            "run_id": "r",
            "metrics": {"x": n},
            "step": n,
            "log_id": f"{n}",
            "timestamp": f"2026-01-0{n}T00:00:00+00:00",
            "config": {"seed": 1} if n == 1 else None,
        }
        for n in (1, 2)
    ]
    _store(rows)
    (file,) = (store / "inbox").glob("*/*.jsonl")
    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [
        {name: line[name] for name in row} for line, row in zip(found, rows, strict=True)
    ] == rows
    assert not list(store.glob("*.db"))


def test_it_is_set_up_where_it_is_told_where(monkeypatch: pytest.MonkeyPatch) -> None:
    assert TrackioCallback.is_set_up()
    monkeypatch.delenv("TRACKIO_DIR")
    assert not TrackioCallback.is_set_up()
    monkeypatch.setenv("TRACKIO_SPACE_ID", "me/board")
    assert TrackioCallback.is_set_up()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Trackio's own server on loopback: its address for writing, and its folder."""
    folder = tmp_path_factory.mktemp("server")
    environ = {**os.environ, "TRACKIO_DIR": str(folder), "HOME": str(folder)}
    environ["HF_HUB_OFFLINE"] = "1"
    with (folder / "server.log").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", SERVE],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        lines = (line.split() for line in process.stdout)
        address = next((words[1] for words in lines if words[:1] == ["ADDRESS"]), "")
        watchdog.cancel()
        assert address, (folder / "server.log").read_text()
        yield address, folder
    finally:
        watchdog.cancel()
        process.terminate()
        process.communicate(timeout=30)  # Closes what is read of it as well.


def through(way: FailingWay, address: str) -> str:
    """The server's address, by another way."""
    return f"{way.address}?{urlsplit(address).query}"


def test_a_server_that_is_gone_for_a_while_gets_everything_once(
    server: tuple[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address, folder = server
    way = FailingWay(urlsplit(address).port)
    with EventBus() as bus:
        tracker = TrackioCallback(server_url=through(way, address), project="gone", name="n")
        bus.subscribe(tracker, delivery="process", required=True)
        bus.wait_ready()
        state = TrainerState()
        link = bus.open_run(state, run_id="gone")
        link.emit("train_begin", {"output_dir": str(tmp_path), "arguments": {"seed": 1}})

        def log(first: int, last: int) -> None:
            for step in range(first, last + 1):
                state.global_step = step
                link.emit("log", {"logs": {"loss": float(step)}})

        log(1, 20)
        assert bus.flush(60)
        way.refuse()
        log(21, 1_200)
        deadline = time.monotonic() + DEADLINE_S
        while "gets no answer" not in caplog.text:
            assert time.monotonic() < deadline, caplog.text
            time.sleep(0.05)
        way.accept()
        log(1_201, 1_210)
        link.emit("train_end")
        assert bus.flush(60)
        assert bus.ledger["TrackioCallback"].failures == 0
    (run,) = stored_runs(folder, "gone")
    assert run.all_points() == {"train/loss": [(step, float(step)) for step in range(1, 1_211)]}
    assert (run.run_id, run.config["seed"], run.config["stepbus/status"]) == (
        "gone",
        1,
        "finished",
    )
    assert "TrackioCallback is answered again" in caplog.text


def test_a_server_that_falls_silent_holds_up_the_end_no_longer_than_it_may(
    server: tuple[str, Path], train_with: TrainWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder = server
    way = FailingWay(urlsplit(address).port)
    monkeypatch.setenv("TRACKIO_SERVER_URL", through(way, address))
    trained = train_with(
        TrackioCallback(project="silent"), train=False, drain_timeout_s=2.0, max_steps=40
    )

    class Silences(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 20:
                assert trained.trainer.bus.flush(60)
                way.fall_silent()

    trained.trainer.add_callback(Silences())
    trained.trainer.train()
    ended = time.time()
    # The deadline, and what a process that does not end by itself is given to be ended.
    assert ended - trained.checkpoints.logged_at[40, "loss"] < 2.0 + 12.0
    (run,) = stored_runs(folder, "silent")
    steps = [step for step, _ in run.all_points()["train/loss"]]
    assert steps[:19] == list(range(1, 20))
    assert any("TrackioCallback" in line for line in trained.trainer.ledger.troubles)
