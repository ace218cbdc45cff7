"""Scalars on an MPS device, where there is one. Run by `make test-device`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stepbus import EventBus, TrainingArguments, TrainingRun
from stepbus.engine.metric_buffer import MetricBuffer

pytestmark = pytest.mark.skipif(
    not torch.backends.mps.is_available(), reason="this machine has no MPS device"
)


def test_values_arrive_in_order_and_as_they_were() -> None:
    buffer, loss = MetricBuffer(), torch.zeros((), device="mps")
    handles = []
    for _ in range(300):
        (handle,) = buffer.push([loss])[1]
        handles.append(handle)
        loss += 1
    assert [handle.result() for handle in handles] == list(range(300))


def test_types_that_differ_are_widened_as_far_as_the_device_can() -> None:
    values = [
        torch.tensor(0.5, device="mps", dtype=torch.float16),
        torch.tensor(7, device="mps"),
        torch.tensor(0.25, device="mps"),
    ]
    _, handles = MetricBuffer().push(values)
    assert [handle.result() for handle in handles] == [0.5, 7.0, 0.25]


def test_steps_and_logs_carry_the_losses(tmp_path: Path) -> None:
    bus = EventBus()
    steps: list[float | None] = []
    logs: list[object] = []
    bus.subscribe("step_end")(lambda event: steps.append(event.loss))
    bus.subscribe("log")(lambda event: logs.append(event.logs.get("loss")))
    args = TrainingArguments(
        str(tmp_path), max_steps=8, logging_steps=4, save_strategy="no", report_to="none"
    )
    with TrainingRun(args, model=torch.nn.Linear(1, 1).to("mps"), bus=bus) as run:
        for _ in run.steps([torch.ones(1)] * 8):
            step = run.state.global_step + 1
            run.log_histogram("ones", torch.ones(step, device="mps"))
            run.end_step(loss=torch.full((), float(step), device="mps"))
    assert steps == [float(step) for step in range(1, 9)]
    assert logs[:2] == [2.5, 6.5]
