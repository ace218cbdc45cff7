"""What Kubeflow's controller hears of a training."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from stepbus import ArgumentError, DeliveryError, EventBus, KubeflowCallback
from stepbus.bus.registry import Registry, resolve_report_to
from stepbus.bus.testing import FakeClock
from stepbus.schemas import TrainerState
from stepbus.subscribers.trackers import kubeflow
from tests.subscribers.trackers.conftest import TrainWith
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.trackers.status_server import StatusServer


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "token"
    path.write_text("secret-1\n")
    for name in ("CA_CERT", "URL"):
        monkeypatch.delenv(f"KUBEFLOW_TRAINER_SERVER_{name}", raising=False)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_TOKEN", str(path))
    return path


@pytest.fixture
def server(token: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StatusServer]:
    made = StatusServer()
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", made.url)
    yield made
    made.close()


@pytest.mark.slow
def test_a_training_in_another_process_is_heard_of_over_tls(
    train_with: TrainWith, token: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = StatusServer(tmp_path)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", server.url)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_CA_CERT", str(server.certificate))
    try:
        trained = train_with(KubeflowCallback())
        trained.trainer.evaluate()
    finally:
        server.close()
    assert trained.delivery == "process"
    assert trained.trainer.tracker("kubeflow") == {"url": server.url}
    first, *_, last = server.reports
    assert {(report.path, report.token) for report in server.reports} == {
        ("/status", "Bearer secret-1")
    }
    assert first.status["progressPercentage"] == 0
    assert first.metrics == {"current_step": "0", "total_steps": "6", "current_epoch": "0.0"}
    assert [report.status["progressPercentage"] for report in server.reports[:-1]] != [100]
    assert last.status["progressPercentage"] == 100
    assert last.status["estimatedRemainingSeconds"] == 0
    expected = {name: values[-1][1] for name, values in trained.logged(rewritten=False).items()}
    expected |= trained.closing()
    where = {"current_step": "6", "total_steps": "6", "current_epoch": "1.0"}
    evaluated = {name for name in expected if name.startswith("eval_")}
    found = last.metrics
    assert {k: found[k] for k in found if k not in evaluated} == {
        **{name: str(value) for name, value in expected.items() if name not in evaluated},
        **where,
    }
    assert evaluated <= found.keys()
    assert datetime.fromisoformat(last.status["lastUpdatedTime"]).tzinfo is not None


def test_progress_and_the_time_left_are_those_of_the_present_attempt(
    server: StatusServer, token: Path
) -> None:
    clock = FakeClock()
    with EventBus(clock=clock) as bus:
        bus.subscribe(KubeflowCallback(), delivery="thread", required=True)
        bus.wait_ready()
        state = TrainerState(global_step=51, max_steps=100)
        link = bus.open_run(state, run_id="resumed", attempt=2)
        link.emit("train_begin", {"max_steps": 100})
        for step in range(52, 101):
            clock.advance(2.0)
            state.global_step, state.epoch = step, step / 50
            link.emit("log", {"logs": {"loss": float(step), "text": "x", "flag": True}})
            link.emit("step_end")
            if step == 60:
                assert bus.flush(10)
                token.write_text("secret-2")
        assert bus.flush(10)
        before = list(server.reports)
        link.emit("train_end", {"status": "finished", "metrics": {"train_loss": 1.5}})
        bus.close_run(link)
        # One that is stopped, and one that fails, are not done.
        for name, kind, values in (
            ("stopped", "train_end", {"status": "stopped"}),
            ("failed", "run_failed", {"error": "E", "message": "m", "traceback": ""}),
        ):
            state = TrainerState(max_steps=10)
            link = bus.open_run(state, run_id=name)
            link.emit("train_begin", {"max_steps": 10})
            clock.advance(30.0)
            state.global_step = 3
            link.emit(kind, values)
            bus.close_run(link)
        assert bus.flush(10)
        assert bus.ledger["KubeflowCallback"].failures == 0
    steps = [int(report.metrics["current_step"]) for report in before]
    # Every 5 s of its clock, of which a step takes 2.
    assert steps == [51, *range(52, 101, 3)]
    for report, step in zip(before, steps, strict=True):
        assert report.status["progressPercentage"] == min(step, 99)
        assert report.status.get("estimatedRemainingSeconds") == (
            None if step == 51 else 2 * (100 - step)
        )
        assert report.metrics.get("loss") == (None if step == 51 else str(float(step)))
        assert not {"text", "flag"} & report.metrics.keys()
    assert {report.token for report in before} == {"Bearer secret-1", "Bearer secret-2"}
    end, *others = server.reports[len(before) :]
    assert end.status["progressPercentage"] == 100
    assert (end.metrics["train_loss"], end.metrics["loss"]) == ("1.5", "100.0")
    assert [report.status["progressPercentage"] for report in others] == [0, 30, 0, 30]


def test_a_server_that_is_gone_for_a_while_is_named_once_and_tried_again(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    way = FailingWay(server.port)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", f"{way.address}/status")
    clock = FakeClock()
    with EventBus(clock=clock) as bus:
        bus.subscribe(KubeflowCallback(), delivery="thread", required=True)
        bus.wait_ready()
        state = TrainerState(max_steps=10)
        link = bus.open_run(state)
        way.refuse()
        link.emit("train_begin", {"max_steps": 10})
        for step in range(1, 5):
            clock.advance(6.0)
            state.global_step = step
            link.emit("step_end")
        assert bus.flush(10)
        way.accept()
        link.emit("train_end", {"status": "finished"})
        assert bus.flush(10)
        row = bus.ledger["KubeflowCallback"]
        assert (row.failures, row.quarantined) == (0, "")
    assert [report.status["progressPercentage"] for report in server.reports] == [100]
    assert caplog.text.count("Kubeflow takes no progress") == 1
    assert caplog.text.count("Kubeflow takes progress again") == 1


def test_a_server_that_never_answers_holds_up_nothing(
    train_with: TrainWith, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubeflow, "EVERY_S", 0.2)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", FailingWay(None).address)

    class InThread(KubeflowCallback):
        delivery = "thread"

    trained = train_with(InThread())
    assert trained.trainer.state.global_step == 6


def test_the_token_is_taken_nowhere_else(
    token: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = StatusServer(redirects=True)
    monkeypatch.setenv("KUBEFLOW_TRAINER_SERVER_URL", server.url)
    try:
        with EventBus() as bus:
            bus.subscribe(KubeflowCallback(), delivery="thread", required=True)
            bus.wait_ready()
            bus.open_run(TrainerState()).emit("train_begin", {"max_steps": 10})
            assert bus.flush(10)
    finally:
        server.close()
    assert [report.path for report in server.reports] == ["/status"]
    assert "Kubeflow takes no progress" in caplog.text


def test_it_is_attached_where_a_job_asks_for_it(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choice(report_to: Any) -> Any:
        found = resolve_report_to(report_to, Registry(), environ={})
        return next(choice for choice in found if choice.name == "kubeflow")

    assert choice(None).attached
    assert choice("all").attached
    monkeypatch.setenv("DISABLE_KUBEFLOW_INTEGRATION", "TRUE")
    assert choice(None).reason == "DISABLE_KUBEFLOW_INTEGRATION is set"
    monkeypatch.delenv("DISABLE_KUBEFLOW_INTEGRATION")
    monkeypatch.delenv("KUBEFLOW_TRAINER_SERVER_URL")
    assert "not set, as it is in a Kubeflow TrainJob" in choice("all").reason
    with pytest.raises(ArgumentError, match="'kubeflow' was asked for, and KUBEFLOW_TRAINER_SER"):
        choice("kubeflow")


@pytest.mark.parametrize("name", ["TOKEN", "CA_CERT"])
def test_what_cannot_be_read_is_an_error_before_the_first_step(
    server: StatusServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv(f"KUBEFLOW_TRAINER_SERVER_{name}", str(tmp_path / "nothing"))
    bus = EventBus()
    bus.subscribe(KubeflowCallback(), delivery="thread", required=True)
    with pytest.raises(DeliveryError, match=f"KUBEFLOW_TRAINER_SERVER_{name} is '.*nothing'"):
        bus.start()
    bus.close()
    assert server.reports == []
