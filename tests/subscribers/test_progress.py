"""The figures and the displays of progress, driven by a real bus and a clock turned by hand."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from stepbus.bus import Lease, LedgerRow
from stepbus.schemas import ArgumentError, Vote
from stepbus.subscribers import ProgressCallback
from stepbus.subscribers.log_line import clock_text, log_line


def step(run: Any, number: int, after_s: float = 1.0, **values: Any) -> None:
    run.clock.now += after_s
    run.emit("step_end", number, step_s=after_s, **values)


def test_plain_lines_tell_step_loss_rate_time_left_and_waiting_for_data(
    live_run: Callable[..., Any], clock: Any
) -> None:
    out = io.StringIO()
    run = live_run(ProgressCallback(stream=out, every_s=1e-9), clock=clock)
    run.emit("train_begin", max_steps=100)
    for number in range(1, 11):
        step(run, number, after_s=0.5, loss=2.0, data_wait_s=0.19)
    run.emit("train_end", 10)
    run.finish()
    lines = out.getvalue().splitlines()
    assert lines[0] == "training from step 0 to 100"
    assert lines[1] == "step 1/100  1 %  loss 2  data-bound 38 %"
    assert lines[10] == "step 10/100  10 %  loss 2  2 steps/s  0:45 left  data-bound 38 %"
    assert lines[-1] == "finished: 10 steps, 0:05 in this attempt"


def test_the_loss_comes_from_the_logs_where_the_steps_have_none(
    live_run: Callable[..., Any], clock: Any
) -> None:
    out = io.StringIO()
    run = live_run(ProgressCallback(stream=out, every_s=1e-9), clock=clock)
    run.emit("train_begin", max_steps=10)
    run.log(1, loss=1.25)
    step(run, 2)
    run.finish()
    assert out.getvalue().splitlines()[-1] == "step 2/10  20 %  loss 1.25"


def test_steps_faster_than_the_refresh_are_not_looked_at_one_by_one(
    live_run: Callable[..., Any], clock: Any
) -> None:
    display = ProgressCallback(stream=io.StringIO())
    run = live_run(display, clock=clock)
    run.emit("train_begin", max_steps=10_000)
    for number in range(1, 1001):
        step(run, number, after_s=0.001)
    run.finish()
    row = run.bus.ledger[0]
    assert row.handled <= 12


def test_plain_lines_come_now_and_then_and_evaluations_at_once(
    live_run: Callable[..., Any], clock: Any
) -> None:
    out = io.StringIO()
    run = live_run(ProgressCallback(stream=out, every_s=3600.0), clock=clock)
    run.emit("train_begin", max_steps=100)
    for number in range(1, 21):
        step(run, number, loss=1.0)
        run.log(number, loss=1.0)
    run.emit("prediction_step", batch=1, num_batches=3)
    run.log(20, eval_loss=1.5, epoch=0.2, total_flos=1e9)
    run.emit("evaluate", metrics={"eval_loss": 1.5})
    run.link.emit("save", {"path": "out/checkpoint-20"}, note=Lease())
    run.emit("train_end", 100, status="stopped", stopped_by="EarlyStoppingCallback")
    run.finish()
    assert out.getvalue().splitlines() == [
        "training from step 0 to 100",
        "step 20  eval_loss 1.5  epoch 0.2",
        "step 20  saved out/checkpoint-20",
        "stopped by EarlyStoppingCallback: 100 steps, 0:20 in this attempt",
    ]


def test_an_evaluation_shows_its_batches_and_does_not_slow_the_rate(
    live_run: Callable[..., Any], clock: Any
) -> None:
    out = io.StringIO()
    run = live_run(ProgressCallback(stream=out, every_s=1e-9), clock=clock)
    run.emit("train_begin", max_steps=100)
    step(run, 1)
    step(run, 2)
    clock.now += 5
    run.emit("prediction_step", 2, batch=3, num_batches=4)
    run.emit("evaluate", metrics={})
    step(run, 3)
    step(run, 4)
    run.finish()
    lines = out.getvalue().splitlines()
    assert "step 2/100  2 %  evaluating 3/4  1 steps/s  1:38 left" in lines
    assert lines[-1].startswith("step 4/100  4 %  1 steps/s")


def test_a_failure_and_a_verdict_are_told(live_run: Callable[..., Any], clock: Any) -> None:
    out = io.StringIO()
    run = live_run(ProgressCallback(stream=out), clock=clock)
    run.emit("train_begin", max_steps=9)
    votes = [Vote("save", voter="file:a", reason="going home")]
    run.emit("verdict", 3, action="save", outcome="acted", votes=votes, acted_at=3)
    run.emit("run_failed", 4, error="ValueError", message="no", traceback="")
    run.finish()
    assert out.getvalue().splitlines()[1:] == [
        "step 3  save acted: file:a (going home)",
        "failed after 4 steps, 0:00 in this attempt: ValueError: no",
    ]


def test_an_evaluation_outside_of_a_run_is_shown(live_run: Callable[..., Any], clock: Any) -> None:
    out = io.StringIO()
    run = live_run(ProgressCallback(stream=out, every_s=1e-9), clock=clock)
    run.emit("prediction_step", 7, batch=1, num_batches=2)
    run.log(7, eval_loss=0.5)
    run.emit("evaluate", metrics={"eval_loss": 0.5})
    run.finish()
    assert out.getvalue().splitlines() == ["step 7 steps  evaluating 1/2", "step 7  eval_loss 0.5"]


BEHIND = LedgerRow(
    subscriber="slow",
    delivery="thread",
    pending=2_000,
    behind=True,
    fell_behind=1,
    remedy="every=8 would do",
)


def test_a_subscriber_that_falls_behind_is_named_until_the_run_is_over(
    live_run: Callable[..., Any], clock: Any
) -> None:
    out = io.StringIO()
    display = ProgressCallback(stream=out, every_s=1e-9, ledger=lambda: [BEHIND])
    run = live_run(display, clock=clock)
    run.emit("train_begin", max_steps=9)
    step(run, 1)
    run.emit("train_end", 9)
    run.finish()
    lines = out.getvalue().splitlines()
    assert lines[1].endswith("slow falls behind, 2,000 events wait: every=8 would do")
    assert lines[2:] == ["finished: 9 steps, 0:01 in this attempt"]


def test_nothing_is_said_of_subscribers_that_are_well(
    live_run: Callable[..., Any], clock: Any
) -> None:
    out = io.StringIO()
    rows = [
        BEHIND.model_copy(update={"behind": False}),
        LedgerRow(subscriber="late", delivery="thread", pending=5_000, lag_s=9.0),
        LedgerRow(
            subscriber="plot", delivery="thread", overflow="latest", dropped={"overflow": 40}
        ),
        LedgerRow(subscriber="ProgressCallback", delivery="thread", dropped={"overflow": 1}),
    ]
    run = live_run(ProgressCallback(stream=out, every_s=1e-9, ledger=lambda: rows), clock=clock)
    run.emit("train_begin", max_steps=9)
    step(run, 1)
    run.finish()
    assert out.getvalue().splitlines()[1:] == ["step 1/9  11 %"]


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_closed_stream_is_no_error(live_run: Callable[..., Any], clock: Any, when: str) -> None:
    out = io.StringIO()
    run = live_run(ProgressCallback(stream=out, every_s=1e-9), clock=clock)
    if when == "before":
        out.close()
    run.emit("train_begin", max_steps=9)
    assert run.bus.flush(10)
    out.close()
    step(run, 1)
    run.log(1, eval_loss=1.0)
    run.emit("train_end", 9)
    run.finish()


def test_a_second_run_on_the_same_bus_has_a_display_of_its_own(
    live_run: Callable[..., Any], clock: Any
) -> None:
    out = io.StringIO()
    run = live_run(ProgressCallback(stream=out), clock=clock)
    for _ in range(2):
        run.emit("train_begin", 0, max_steps=3)
        run.emit("train_end", 3)
    run.finish()
    assert out.getvalue().count("training from step 0 to 3") == 2
    assert out.getvalue().count("finished: 3 steps") == 2


def test_a_wrong_display_or_interval_is_refused() -> None:
    with pytest.raises(ArgumentError, match="display='tqdm'"):
        ProgressCallback(display="tqdm")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="every_s=0"):
        ProgressCallback(every_s=0)
    for length in (0, 1.5, True):
        with pytest.raises(ArgumentError, match="max_str_len="):
            ProgressCallback(length)  # type: ignore[arg-type]


def test_logged_strings_are_shown_as_long_as_asked_for(
    live_run: Callable[..., Any], clock: Any
) -> None:
    out, short = io.StringIO(), io.StringIO()
    displays = [ProgressCallback(stream=out), ProgressCallback(10, stream=short)]
    run = live_run(*displays, clock=clock)
    run.emit("train_begin", max_steps=3)
    run.log(1, eval_sample="a" * 50)
    run.finish()
    assert f"eval_sample {'a' * 50}\n" in out.getvalue()
    assert f"eval_sample {'a' * 7}...\n" in short.getvalue()


def test_values_are_shown_short() -> None:
    logs: dict[str, Any] = {
        "loss": 1.23456789,
        "lr": 2e-05,
        "nan": float("nan"),
        "n": 12345,
        "t": "a\nb" * 99,
    }
    line = log_line(7, logs)
    assert line.startswith("step 7  loss 1.235  lr 2e-05  nan nan  n 12345  t a ba b")
    assert line.endswith("...")
    assert "\n" not in line


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (725, "12:05"), (11525, "3:12:05")]
)
def test_durations_are_shown_as_clocks(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text
