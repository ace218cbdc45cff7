"""A web hook hears what happens to real runs: once for each incident, and what a server misses."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stepbus import DeliveryError, EventBus, TrainingRun, WebhookCallback
from stepbus.schemas import TrainerState
from tests.subscribers.test_in_a_sidecar import kill_the_sidecar
from tests.subscribers.trackers.failing_way import FailingWay
from tests.subscribers.webhook import training
from tests.subscribers.webhook.hook_server import Answer, HookServer
from tests.subscribers.webhook.training import STEPS, train

pytestmark = pytest.mark.slow

DEADLINE_S = 60


def test_a_run_that_finishes_is_told_once_from_the_sidecar(
    tmp_path: Path, hook: HookServer
) -> None:
    callback = WebhookCallback(
        hook.url("/services/T0/s3cr3t?token=abcdef"), headers={"X-Token": "t0k3n"}
    )
    ids: list[str] = []
    summary = train(tmp_path, callback, in_step=lambda run, step: ids.append(run.run_id))
    row = summary.ledger["WebhookCallback"]
    assert (row.delivery, row.failures, row.handled) == ("process", 0, row.accepted)
    (post,) = hook.posts
    assert post.path == "/services/T0/s3cr3t?token=abcdef"
    assert post.headers["content-type"] == "application/json"
    assert post.headers["x-token"] == "t0k3n"
    body = post.body
    assert body["kind"] == "finished"
    assert body["run_id"] == ids[0]
    assert (body["run_name"], body["attempt"]) == ("tiny", 1)
    assert (body["step"], body["max_steps"]) == (STEPS, STEPS)
    assert body["metrics"]["train_loss"] == 0.5
    assert body["output_dir"] == str(tmp_path)
    assert body["host"] == socket.gethostname()
    assert abs(body["time"] - time.time()) < 600
    assert body["message"].startswith("tiny has finished at step 4 of 4 (loss 0.5, ")
    assert body["text"] == body["content"] == body["message"]


def test_who_stopped_it_and_why_is_told(tmp_path: Path, hook: HookServer) -> None:
    def stop(run: TrainingRun, step: int) -> None:
        if step == 2:
            run.vote("stop", reason="the cluster is needed", voter="ada")

    train(tmp_path, WebhookCallback(hook.url()), in_step=stop)
    (body,) = hook.taken
    assert (body["kind"], body["step"]) == ("stopped", 2)
    assert (body["stopped_by"], body["reason"]) == ("ada", "the cluster is needed")
    assert body["text"] == "tiny was stopped at step 2 of 4 by ada: the cluster is needed"


def test_a_loss_that_is_nan_at_each_step_is_one_message_and_a_failure_another(
    tmp_path: Path, hook: HookServer
) -> None:
    def fail(run: TrainingRun, step: int) -> None:
        if step == 40:
            raise ValueError("<!channel> the data ended")

    with pytest.raises(ValueError, match="the data ended"):
        train(
            tmp_path,
            WebhookCallback(hook.url(), events=["started", "non_finite", "failed"]),
            max_steps=50,
            # Now and then it is finite: that is no new incident.
            loss=lambda step: math.nan if step >= 3 and step % 5 else None,
            in_step=fail,
        )
    assert hook.kinds == ["started", "non_finite", "failed"]
    _, nan, failed = hook.taken
    assert (nan["value"], nan["number"], nan["at_step"]) == ("loss", "NaN", 3)
    assert nan["text"] == "tiny: the loss of step 3 is nan"
    assert (failed["error"], failed["error_message"]) == ("ValueError", "<!channel> the data ended")
    assert 'raise ValueError("<!channel> the data ended")' in failed["traceback"]
    assert failed["text"] == (
        "tiny failed at step 39 of 50: ValueError: &lt;!channel&gt; the data ended"
    )
    assert (
        failed["content"] == "tiny failed at step 39 of 50: ValueError: <!channel> the data ended"
    )
    assert failed["allowed_mentions"] == {"parse": []}
    assert len({body["id"] for body in hook.taken}) == 3


def test_a_server_that_answers_with_errors_at_first_gets_it_once_it_takes_it(
    tmp_path: Path, hook: HookServer, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [Answer(500, "down"), Answer(503, headers=(("Retry-After", "1"),))]
    summary = train(tmp_path, WebhookCallback(hook.url()))
    assert summary.ledger["WebhookCallback"].failures == 0
    assert [post.taken for post in hook.posts] == [False, False, True]
    assert len({post.body["id"] for post in hook.posts}) == 1
    assert "finished (step 4) could not be posted to http://127.0.0.1" in caplog.text
    assert "(500 Internal Server Error: down): tried again in 0.5 s" in caplog.text
    assert "answers again" in caplog.text


def test_what_a_server_refuses_is_posted_once_and_named_with_its_answer(
    tmp_path: Path, hook: HookServer, caplog: pytest.LogCaptureFixture
) -> None:
    hook.answers = [Answer(404, "no_service"), Answer(302, headers=(("Location", "/other"),))]
    summary = train(
        tmp_path,
        WebhookCallback(hook.url()),
        loss=lambda step: math.inf if step == 1 else None,
    )
    assert summary.status == "finished"
    assert [post.body["kind"] for post in hook.posts] == ["non_finite", "finished"]
    assert [post.path for post in hook.posts] == ["/hook", "/hook"], "no redirect is followed"
    assert summary.ledger["WebhookCallback"].failures >= 1
    assert "non_finite (step 1): 404 Not Found: no_service" in caplog.text
    assert "finished (step 4): 302 Found" in caplog.text


def test_a_server_that_refuses_connections_holds_nothing_up_but_the_end_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        callback = WebhookCallback(f"http://127.0.0.1:{taken.getsockname()[1]}/hook", tries=2)
        summary = train(tmp_path, callback)
    assert summary.status == "finished"
    assert "WebhookCallback: not posted to http://127.0.0.1" in caplog.text
    assert "finished (step 4): ConnectionRefusedError" in caplog.text


def test_a_server_that_never_answers_holds_up_no_step_and_what_it_did_not_get_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    way = FailingWay(None)

    def fail(run: TrainingRun, step: int) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while step == 2 and not way.connections:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if step == 20:
            raise ValueError("the data ended")

    with pytest.raises(ValueError, match="the data ended"):
        train(
            tmp_path,
            # The steps are over long before the request is.
            WebhookCallback(f"{way.address}/hook", timeout_s=60),
            max_steps=50,
            loss=lambda step: math.nan if step == 1 else None,
            in_step=fail,
            drain_timeout_s=2,
        )
    assert way.connections <= 2, "once more at the end"
    named = "non_finite (step 1): the time was over, failed (step 19): the time was over."
    assert f"WebhookCallback: not posted to {way.address}/***: {named}" in caplog.text
    assert "is killed" not in caplog.text
    way.refuse()


def test_a_request_that_hangs_does_not_keep_a_failure_from_being_told(
    tmp_path: Path, hook: HookServer
) -> None:
    hook.answers = [Answer(0)]

    def fail(run: TrainingRun, step: int) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while step == 2 and not hook.posts:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if step == 3:
            raise ValueError("the data ended")

    with pytest.raises(ValueError, match="the data ended"):
        train(
            tmp_path,
            WebhookCallback(hook.url(), timeout_s=60),
            loss=lambda step: math.nan if step == 1 else None,
            in_step=fail,
        )
    assert hook.kinds == ["non_finite", "failed"]
    assert [post.body["kind"] for post in hook.posts] == ["non_finite", "non_finite", "failed"]


def test_a_server_that_never_answers_is_tried_a_few_times_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    way = FailingWay(None)
    summary = train(tmp_path, WebhookCallback(f"{way.address}/hook", timeout_s=0.5, tries=2))
    assert summary.status == "finished"
    assert way.connections == 2
    assert "finished (step 4): no answer within 0.5 s" in caplog.text
    way.refuse()


def test_what_waits_in_a_sidecar_that_is_killed_is_posted_by_the_next(
    tmp_path: Path, hook: HookServer
) -> None:
    hook.answers = [Answer(503)] * 100
    with EventBus() as bus:
        bus.subscribe(WebhookCallback(hook.url()), delivery="process", required=True)
        bus.wait_ready()
        link = bus.open_run(TrainerState(), run_id="r")
        link.emit("train_begin", {"output_dir": str(tmp_path), "run_name": "big"})
        link.emit("non_finite", {"value": "loss", "number": math.nan, "at_step": 1})
        deadline = time.monotonic() + DEADLINE_S
        while not hook.posts:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        kill_the_sidecar()
        hook.answers = []
        assert bus.flush(DEADLINE_S)
        link.emit("train_end")
        assert bus.flush(DEADLINE_S)
    assert hook.kinds == ["non_finite", "finished"]
    assert len({post.body["id"] for post in hook.posts}) == 2
    assert {body["run_name"] for body in hook.taken} == {"big"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_killed_is_told(
    tmp_path: Path, hook: HookServer, number: signal.Signals
) -> None:
    program = [sys.executable, "-W", "error", training.__file__, str(tmp_path), hook.url()]
    process = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    assert process.stdout is not None
    try:
        said = ""
        while "WAITING" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        os.kill(process.pid, number)
        # The sidecar holds the pipe too, and outlives a trainer that is killed by a moment.
        said += process.communicate(timeout=DEADLINE_S)[0]
    finally:
        process.kill()
    (body,) = hook.taken
    if number == signal.SIGTERM:
        assert (process.returncode, body["kind"], body["step"]) == (143, "stopped", 2), said
        assert body["reason"] == "SIGTERM was received"
    else:
        assert (process.returncode, body["kind"]) == (-signal.SIGKILL, "killed"), said
        assert f"the training process {process.pid} ended" in body["text"]


def test_nothing_secret_is_shown_whatever_goes_wrong(
    tmp_path: Path, hook: HookServer, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    secrets = ["T0123", "s3cr3t-path", "s3cr3t-value", "s3cr3t-word", "s3cr3t-key", "s3cr3t-user"]
    url = hook.url("/T0123/s3cr3t-path?token=s3cr3t-value").replace(
        "http://", "http://s3cr3t-user:s3cr3t-word@"
    )
    echo = " ".join(secrets)
    hook.answers = [Answer(500, echo), Answer(429, echo), Answer(403, f"{'.' * 190} {echo}")]
    callback = WebhookCallback(url, headers={"X-Key": "Bearer s3cr3t-key"})
    summary = train(tmp_path / "out", callback, loss=lambda step: math.nan)
    assert len(hook.taken) == 1, "the first was refused in the end"
    assert hook.posts[0].headers["authorization"].startswith("Basic ")
    assert "403 Forbidden" in caplog.text
    written = "".join(
        path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    shown = [caplog.text, *capfd.readouterr(), str(summary), written, repr(callback)]
    shown += [str(callback.whereabouts()), callback.address]
    for secret in ("T0123", "s3cr"):  # Nor half of one.
        assert not [text for text in shown if secret in text]


def test_a_host_that_cannot_be_found_is_an_error_before_the_first_step(tmp_path: Path) -> None:
    # A label of a name has 63 characters at most, so that no server is asked for it.
    callback = WebhookCallback(f"https://{'a' * 64}.example/s3cr3t-path")
    steps: list[int] = []
    with pytest.raises(DeliveryError, match=r"example/\*\*\* cannot be found") as caught:
        train(tmp_path, callback, in_step=lambda run, step: steps.append(step))
    assert not steps
    assert "s3cr3t" not in str(caught.value)
