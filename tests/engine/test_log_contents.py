"""What stands in the logs, in the history and in the summary."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

import pytest
import torch

from stepbus import EventBus, StepEnd, TrainerCallback

if TYPE_CHECKING:
    from tests.engine.conftest import Loop

CLOSING = [
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "total_flos",
    "train_loss",
    "epoch",
]


def test_keys_of_training_evaluation_and_closing_logs(loop: Loop) -> None:
    loop.train(logging_strategy="steps", logging_steps=6, eval_strategy="steps", eval_steps=12)
    logs = [dict(event.logs) for event in loop.recorder.of("log")]
    assert [list(log) for log in logs] == [
        ["loss", "grad_norm", "learning_rate", "epoch"],
        ["loss", "grad_norm", "learning_rate", "epoch"],
        [
            "eval_loss",
            "eval_runtime",
            "eval_samples_per_second",
            "eval_steps_per_second",
            "epoch",
        ],
        CLOSING,
    ]
    (evaluated,) = loop.recorder.of("evaluate")
    assert dict(evaluated.metrics) == logs[2]
    assert logs[2]["eval_samples_per_second"] > logs[2]["eval_steps_per_second"] > 0
    assert dict(loop.recorder.of("train_end")[0].metrics) == logs[3]


def test_history_has_a_row_for_each_log_with_its_step(loop: Loop) -> None:
    loop.train(logging_strategy="steps", logging_steps=5, eval_strategy="epoch")
    logs = loop.recorder.of("log")
    rows = [{**event.logs, "step": event.step} for event in logs]
    assert loop.run.state.log_history == rows
    assert [list(event.state.log_history) for event in logs] == [
        rows[: n + 1] for n in range(len(rows))
    ]


def test_loss_is_the_mean_since_the_last_log_and_the_rate_is_that_of_the_step(loop: Loop) -> None:
    loop.train(gradient_accumulation_steps=2, logging_strategy="steps", logging_steps=2)
    logs = [event.logs for event in loop.recorder.of("log")]
    losses = loop.losses
    assert [log["loss"] for log in logs[:3]] == [
        pytest.approx((losses[n] + losses[n + 1]) / 2) for n in (0, 2, 4)
    ]
    # The scheduler has moved already; step n used 1e-2 * (1 / n).
    assert [log["learning_rate"] for log in logs[:3]] == [1e-2 * (1 / n) for n in (2, 4, 6)]
    assert [log["grad_norm"] for log in logs[:3]] == [loop.grad_norms[n] for n in (1, 3, 5)]
    assert logs[3]["train_loss"] == pytest.approx(sum(losses) / 6)
    ends = loop.recorder.of("step_end")
    assert [end.loss for end in ends] == losses
    assert [end.learning_rate for end in ends] == [1e-2 * (1 / n) for n in range(1, 7)]
    assert all(end.bus_s >= 0 and 0 <= end.data_wait_s < end.step_s for end in ends)


def test_values_of_run_log_are_averaged_until_the_next_log_and_never_lost(loop: Loop) -> None:
    def log(loop: Loop) -> None:
        step = loop.steps_done + 1
        loop.run.log({"n": step, "tensor": torch.tensor(float(step)), "text": f"step {step}"})

    loop.in_step = log
    loop.train(logging_strategy="steps", logging_steps=5)
    logs = [event.logs for event in loop.recorder.of("log")]
    assert [(log["n"], log["tensor"], log["text"]) for log in logs] == [
        (3.0, 3.0, "step 5"),
        (8.0, 8.0, "step 10"),
        (11.5, 11.5, "step 12"),
    ]
    assert list(logs[0])[-4:] == ["n", "tensor", "text", "epoch"]
    assert list(logs[2])[3:] == CLOSING


def test_nan_is_reported(loop: Loop) -> None:
    loop.in_step = lambda loop: loop.run.log({"aux": math.nan})
    loop.train(logging_strategy="steps", logging_steps=12)
    assert math.isnan(loop.recorder.of("log")[0].logs["aux"])


def test_an_evaluation_at_the_end_of_an_epoch_is_no_part_of_the_next_step(loop: Loop) -> None:
    taken: list[float] = []

    def evaluate() -> dict[str, float]:
        before = torch.arange(2_000_000.0)
        for _ in range(10):
            before = before.sort(descending=True).values
        taken.append(1.0)
        return {"loss": 1.0}

    loop.train(evaluate=evaluate, eval_strategy="epoch", num_train_epochs=3)
    assert len(taken) == 3
    evaluations = [e.metrics["eval_runtime"] for e in loop.recorder.of("evaluate")]
    first_of_epoch = [end for end in loop.recorder.of("step_end") if end.step in (7, 13)]
    assert max(end.step_s for end in first_of_epoch) < min(evaluations)


def test_summary_says_what_ran_and_what_each_subscriber_cost(loop: Loop) -> None:
    class Named(TrainerCallback):
        def on_step_end(self, *args: Any, **keywords: Any) -> None:
            pass

    loop.train(callbacks=[Named()], save_strategy="epoch")
    summary = loop.run.summary
    assert summary is not None
    assert (summary.status, summary.global_step, summary.undelivered) == ("finished", 12, 0)
    assert [path.rpartition("-")[2] for path in summary.checkpoints] == ["6", "12"]
    rows = {row.subscriber: row for row in summary.ledger}
    assert rows["Named"].handled == 12
    assert rows["Named"].delivery == "gate"
    assert rows["Recorder"].handled == len(loop.recorder.events)
    assert loop.run.ledger == summary.ledger


def test_the_runtime_is_without_the_wait_for_subscribers(loop: Loop) -> None:
    bus = EventBus()
    never = threading.Event()

    @bus.subscribe("step_end", after=11)
    def slow(event: StepEnd) -> None:
        never.wait(3.0)

    loop.train(bus=bus)
    assert loop.run.state.log_history[-1]["train_runtime"] < 3.0
