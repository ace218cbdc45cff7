"""What a server of wandb's gets, and what is done when it is lost: a stand-in on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from stepbus import TrainerCallback, WandbCallback
from stepbus.subscribers.trackers.experiment import CLOSING
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.trackers.reading.wandb import run_files
from tests.subscribers.trackers.wandb_stand_in import WandbStandIn

pytestmark = pytest.mark.slow


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbStandIn]:
    server = WandbStandIn()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", server.address)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield server
    server.close()


def test_sessions_and_attempts_go_on_with_one_run_and_send_each_value_once(
    train_with: TrainWith, server: WandbStandIn
) -> None:
    first = train_with(WandbCallback(), train=False, save_strategy="steps", save_steps=3)
    first.trainer.args.max_steps = 3
    first.trainer.evaluate()
    first.trainer.train()
    first.assert_nothing_failed()
    second = train_with(WandbCallback(), save_strategy="steps", resume_from_checkpoint=True)
    run_id = first.trainer.run_id
    assert list(server.runs) == [run_id] == [second.trainer.run_id]
    where = second.trainer.tracker("wandb")
    assert where["url"] == f"{server.address}/team/huggingface/runs/{run_id}"
    sent = server.runs[run_id]
    expected = first.logged()
    for name, points in second.logged().items():
        expected.setdefault(name, []).extend(points)
    assert sent.all_points() == expected
    assert {name: sent.summary[name] for name in CLOSING} == second.closing()
    wanted = json.loads(json.dumps(second.params))
    assert {name: sent.config[name]["value"] for name in wanted} == wanted
    assert sent.exit_code == 0


def test_a_server_that_is_lost_in_mid_run_holds_up_no_end_and_the_file_has_all(
    train_with: TrainWith,
    server: WandbStandIn,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    way = FailingWay(server.port)
    monkeypatch.setenv("WANDB_BASE_URL", way.address)
    trained = train_with(WandbCallback(), train=False, drain_timeout_s=4.0, max_steps=40)

    class Loses(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 20:
                assert trained.trainer.bus.flush(60)
                way.fall_silent()

    trained.trainer.add_callback(Loses())
    trained.trainer.train()
    ended = time.time()
    # The deadline, and what a process that does not end by itself is given to be ended.
    assert ended - trained.checkpoints.logged_at[40, "loss"] < 4.0 + 12.0
    (run,) = run_files(trained.output_dir)
    assert run.points("train/loss") == trained.logged()["train/loss"]
    assert run.exit_code == 0
    assert f"its file is complete: `wandb sync {run.folder}` sends it" in caplog.text
    assert "WandbCallback does not return from its close(): its process is killed" in caplog.text
    assert server.runs[trained.trainer.run_id].exit_code is None


def test_a_server_that_comes_back_gets_everything_once(
    train_with: TrainWith, server: WandbStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = FailingWay(server.port)
    monkeypatch.setenv("WANDB_BASE_URL", way.address)
    trained = train_with(WandbCallback(), train=False)

    class Breaks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                assert trained.trainer.bus.flush(60)
                way.refuse()

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            back = threading.Timer(2.0, way.accept)
            back.daemon = True
            back.start()

    trained.trainer.add_callback(Breaks())
    trained.trainer.train()
    trained.assert_nothing_failed()
    sent = server.runs[trained.trainer.run_id]
    assert sent.all_points() == trained.logged()
    assert sent.exit_code == 0
