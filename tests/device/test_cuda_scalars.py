"""Scalars on a CUDA device: on their way without a wait, and right. Run by `make test-device`."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stepbus import Event, EventBus, Subscriber, Trainer, TrainingArguments, TrainingRun
from stepbus.engine.metric_buffer import DeferredScalar, MetricBuffer
from stepbus.engine.scalars.histogram import Figures, Histogram
from stepbus.schemas.errors import StepbusError
from tests.device.synchronising import reported, waits_of

DEVICE = torch.device("cuda", 0)
STEPS = 24
LONG = 200_000_000
"""Cycles: about a tenth of a second."""


class Watcher(Subscriber):
    """Keeps every event that it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def of(self, name: str) -> list[Any]:
        return [event for event in self.events if event.name == name]


@pytest.fixture(autouse=True)
def nothing_left_to_do() -> Iterator[None]:
    """Each test begins and ends with an idle device."""
    torch.cuda.synchronize()
    yield
    torch.cuda.synchronize()


def only(buffer: MetricBuffer, value: torch.Tensor) -> DeferredScalar:
    (handle,) = buffer.push([value])[1]
    return handle


# The ring


def test_a_push_behind_a_long_kernel_waits_for_nothing_and_arrives() -> None:
    buffer = MetricBuffer()
    only(buffer, torch.ones((), device=DEVICE)).result()
    loss = torch.full((), 1.5, device=DEVICE)
    with reported() as found, found.look():
        torch.cuda._sleep(LONG)  # type: ignore[no-untyped-call]
        handle = only(buffer, loss)
        assert not handle.ready()
    assert found.calls == []
    torch.cuda.synchronize()
    assert handle.ready()
    assert handle.result() == 1.5


def test_a_value_is_what_it_was_though_the_tensor_is_written_again() -> None:
    buffer, loss = MetricBuffer(), torch.zeros((), device=DEVICE)
    torch.cuda._sleep(LONG)  # type: ignore[no-untyped-call]
    handles = []
    for _ in range(300):
        handles.append(only(buffer, loss))
        loss += 1
    assert [handle.result() for handle in handles] == list(range(300))


def test_waiting_lets_other_threads_run_and_takes_no_processor_time() -> None:
    buffer = MetricBuffer()
    only(buffer, torch.ones((), device=DEVICE)).result()
    torch.cuda._sleep(4 * LONG)  # type: ignore[no-untyped-call]
    handle = only(buffer, torch.ones((), device=DEVICE))
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.002):
            ticks.append(time.perf_counter())

    ticker = threading.Thread(target=tick)
    ticker.start()
    before, cpu = time.perf_counter(), time.thread_time()
    assert handle.result() == 1.0
    waited, spun = time.perf_counter() - before, time.thread_time() - cpu
    done.set()
    ticker.join(10)
    assert waited > 0.05
    assert len(ticks) > 5
    assert spun < waited / 2, "a waiting thread sleeps"


def test_types_and_columns_come_as_they_were() -> None:
    values: list[Any] = [
        torch.tensor(0.1, device=DEVICE),
        torch.tensor(0.5, device=DEVICE, dtype=torch.bfloat16),
        torch.tensor(2**53 - 1, device=DEVICE),
        torch.tensor([True], device=DEVICE),
        3,
        None,
    ]
    numbers, handles = MetricBuffer().push(values)
    assert [handle.result() for handle in handles] == [float(torch.tensor(0.1)), 0.5, 2**53 - 1, 1]
    assert numbers[4:] == [3.0, None]


def test_scalars_of_a_side_stream_come_through_a_ring_of_their_own() -> None:
    buffer, side = MetricBuffer(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    # What allocates, and may wait for the device, comes before.
    only(buffer, torch.full((), 0.0, device=DEVICE)).result()
    with torch.cuda.stream(side):
        only(buffer, torch.full((), 0.0, device=DEVICE)).result()
    torch.cuda._sleep(LONG)  # type: ignore[no-untyped-call]
    slow = only(buffer, torch.full((), 1.0, device=DEVICE))
    with torch.cuda.stream(side):
        quick = only(buffer, torch.full((), 2.0, device=DEVICE))
    assert quick.result() == 2.0
    assert not slow.ready(), "it was not waited for"
    assert slow.result() == 1.0


# Steps


def model_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 1)).to(DEVICE)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)


def batches(count: int = STEPS) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(32, 16, generator=generator).to(DEVICE) for _ in range(count)]


def arguments(folder: Path, **fields: Any) -> TrainingArguments:
    quiet: dict[str, Any] = {
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 4,
        "max_steps": STEPS,
    }
    return TrainingArguments(str(folder), **{**quiet, **fields})


def run_steps(
    run: TrainingRun,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    at_step: Callable[[int], object] = lambda step: None,
) -> None:
    for batch in run.steps(batches()):
        at_step(run.state.global_step)
        loss = nn.functional.mse_loss(model(batch), batch.sum(1, keepdim=True))
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        run.log({"twice": 2 * loss})
        run.log_histogram("weights", next(iter(model.parameters())))
        run.end_step(loss=loss, grad_norm=norm)


def test_no_step_synchronises_whoever_listens(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    watcher = Watcher()
    with reported() as found:

        def at_step(step: int) -> None:
            # The first steps compile and allocate; the end waits for what is on its way.
            found.looks = 3 <= step < STEPS - 1

        with TrainingRun(
            arguments(tmp_path), model=model, optimizer=optimizer, callbacks=[watcher]
        ) as run:
            run_steps(run, model, optimizer, at_step)
            found.looks = False
    assert found.calls == []
    assert len(watcher.of("step_end")) == len(watcher.of("histogram")) == STEPS
    assert len(watcher.of("log")) == STEPS // 4 + 1
    assert all(type(event.loss) is float for event in watcher.of("step_end"))
    assert run.ledger.run is not None
    assert run.ledger.run.waits.keys() <= {"the end of training"}


def test_the_profiler_sees_no_wait_and_no_pageable_copy_on_a_step(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    profiler = torch.profiler.profile(activities=activities)
    mark = torch.profiler.record_function("steps that are looked at")

    def at_step(step: int) -> None:
        if step == 4:
            profiler.start()
            mark.__enter__()  # type: ignore[no-untyped-call]
        if step == STEPS - 2:
            mark.__exit__(None, None, None)
            torch.cuda.synchronize()
            profiler.stop()

    with TrainingRun(
        arguments(tmp_path), model=model, optimizer=optimizer, callbacks=[Watcher()]
    ) as run:
        run_steps(run, model, optimizer, at_step)
    assert waits_of(profiler, "steps that are looked at", tmp_path) == []


def test_the_profiler_would_see_them(tmp_path: Path) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        with torch.profiler.record_function("waiting"):
            torch.ones(3, device=DEVICE).sum().item()
            torch.ones(3, device=DEVICE).cpu()
        torch.cuda.synchronize()
    found = waits_of(profiler, "waiting", tmp_path)
    assert "cudaStreamSynchronize" in found
    assert any("Pageable" in name for name in found)


def test_values_of_steps_and_logs_equal_those_that_are_read_at_once(tmp_path: Path) -> None:
    model, optimizer = model_and_optimizer()
    losses = []
    for batch in batches():
        loss = nn.functional.mse_loss(model(batch), batch.sum(1, keepdim=True))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    model, optimizer = model_and_optimizer()
    watcher = Watcher()
    with TrainingRun(
        arguments(tmp_path), model=model, optimizer=optimizer, callbacks=[watcher]
    ) as run:
        run_steps(run, model, optimizer)
    assert [event.loss for event in watcher.of("step_end")] == pytest.approx(losses, rel=1e-5)
    means = [sum(losses[n : n + 4]) / 4 for n in range(0, STEPS, 4)]
    logged = [event.logs["loss"] for event in watcher.of("log")[:-1]]
    assert logged == pytest.approx(means, rel=1e-5)
    assert run.state.log_history[0]["loss"] == logged[0]


class Quadratic(nn.Module):
    """Small, with a loss of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(16, 32)
        self.outer = nn.Linear(32, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = self.outer(torch.tanh(self.inner(x)))
        return {"loss": nn.functional.mse_loss(logits, labels), "logits": logits}


def trainer(
    folder: Path, watcher: Watcher, model: nn.Module | None = None, **fields: Any
) -> Trainer:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(256, 16, generator=generator)
    samples = [{"x": x, "labels": x.sum(0, keepdim=True)} for x in inputs]
    own: dict[str, Any] = {"per_device_train_batch_size": 4, "disable_tqdm": True, **fields}
    return Trainer(
        model if model is not None else Quadratic(),
        arguments(folder, **own),
        train_dataset=samples,
        callbacks=[watcher],
    )


def test_the_trainers_waits_do_not_grow_with_its_steps(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"include_num_input_tokens_seen": "no", "logging_steps": 1}
    trainer(tmp_path, Watcher(), max_steps=2, **fields).train()  # what a process does once
    waits = []
    for steps in (8, 48):
        made = trainer(tmp_path, Watcher(), max_steps=steps, **fields)
        with reported() as found, found.look():
            made.train()
        waits.append(len(found.calls))
    assert waits[0] == waits[1]


# torch.compile and CUDA graphs


@pytest.mark.filterwarnings("ignore")  # the compiler has advice to give
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_a_compiled_model_logs_what_it_logs_uncompiled(
    tmp_path: Path, mode: str, accumulation: int
) -> None:
    losses = []
    for compiled in (False, True):
        watcher = Watcher()
        fields: dict[str, Any] = {
            "gradient_accumulation_steps": accumulation,
            "torch_compile": compiled,
            "torch_compile_mode": mode if compiled else None,
            "max_steps": 12,
        }
        trainer(tmp_path / str(compiled), watcher, **fields).train()
        losses.append([event.loss for event in watcher.of("step_end")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert len(set(losses[1])) == 12, "a replay does not write over what was logged"


class Captured:
    """A training step as a CUDA graph, whose loss is written anew by each replay."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1)).to(DEVICE)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2, capturable=True)
        self.x = torch.zeros(32, 16, device=DEVICE)
        self.graph = torch.cuda.CUDAGraph()
        self.loss = torch.zeros((), device=DEVICE)

    def step(self) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.mse_loss(self.model(self.x), self.x.sum(1, keepdim=True))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss

    def warm_up(self) -> None:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(side)

    def capture(self, **how: Any) -> None:
        with torch.cuda.graph(self.graph, **how):
            self.loss = self.step()


@pytest.mark.parametrize("guarded", [True, False])
def test_a_capture_in_the_middle_of_a_run_holds_and_replays_are_logged(
    tmp_path: Path, guarded: bool
) -> None:
    captured, watcher = Captured(), Watcher()
    captured.warm_up()
    read: list[float] = []
    with TrainingRun(
        arguments(tmp_path, logging_steps=2), model=captured.model, callbacks=[watcher]
    ) as run:
        for batch in run.steps(batches()):
            captured.x.copy_(batch)
            if run.state.global_step == 4:
                # Values are on their way, and the pump asks for them every 10 ms.
                torch.cuda._sleep(LONG)  # type: ignore[no-untyped-call]
                run.log({"on its way": captured.loss})
                if guarded:
                    with run.capture_guard():
                        captured.capture()
                else:
                    captured.capture(capture_error_mode="thread_local")
            if run.state.global_step >= 4:
                captured.graph.replay()
                run.end_step(loss=captured.loss)
                read.append(captured.loss.item())
            else:
                run.end_step(loss=captured.step())
    losses = [event.loss for event in watcher.of("step_end")]
    assert losses[4:] == read
    assert len(set(losses)) == STEPS


def test_a_scalar_that_is_given_within_a_capture_is_refused_and_the_capture_holds() -> None:
    buffer, graph = MetricBuffer(), torch.cuda.CUDAGraph()
    x = torch.ones((), device=DEVICE)
    with torch.cuda.graph(graph):
        y = x * 2
        with pytest.raises(StepbusError, match="while a CUDA graph is captured"):
            buffer.push([y])
    x.fill_(3.0)
    graph.replay()
    assert only(buffer, y).result() == 6.0


# NaN


@pytest.mark.parametrize("listens", [True, False])
def test_a_nan_stops_the_run_a_step_later(tmp_path: Path, listens: bool) -> None:
    model, watcher = nn.Linear(1, 1).to(DEVICE), Watcher()
    args = arguments(tmp_path, nan_policy="stop", disable_tqdm=True, logging_strategy="no")
    callbacks = [watcher] if listens else []
    with TrainingRun(args, model=model, callbacks=callbacks) as run:
        for _ in run.steps([torch.ones(1)] * STEPS):
            step = run.state.global_step + 1
            torch.cuda.synchronize()
            run.end_step(loss=torch.full((), math.nan if step == 5 else 1.0, device=DEVICE))
    assert run.summary is not None
    assert (run.summary.status, run.summary.global_step) in (("stopped", 5), ("stopped", 6))
    assert run.summary.non_finite["loss"] == 1
    if listens:
        assert [event.at_step for event in watcher.of("non_finite")] == [5]


def test_strict_keeps_the_weights_finite(tmp_path: Path) -> None:
    class Breaks(Quadratic):
        calls = 0

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            outputs = super().forward(x, labels)
            self.calls += 1
            if self.calls == 7:
                outputs["loss"] = outputs["loss"] * math.nan
            return outputs

    made = trainer(tmp_path, Watcher(), Breaks(), nan_policy="strict")
    made.train()
    assert made.summary is not None
    assert (made.summary.status, made.state.global_step) == ("stopped", 7)
    assert all(torch.isfinite(parameter).all() for parameter in made.model.parameters())


# Histograms


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_a_histogram_is_counted_as_on_the_host_and_without_a_wait(
    dtype: torch.dtype, deterministic: bool
) -> None:
    values = (torch.randn(5_000_000, generator=torch.Generator().manual_seed(1)) * 50).to(dtype)
    on_device = values.to(DEVICE)
    metrics = MetricBuffer()
    torch.use_deterministic_algorithms(deterministic)
    try:
        Histogram().add(on_device, metrics)  # what a process does once
        with reported() as found, found.look():
            histogram = Histogram()
            histogram.add(on_device, metrics)
            left = histogram.leave(metrics)
        assert found.calls == []
    finally:
        torch.use_deterministic_algorithms(False)
    host = Histogram()
    host.add(values, metrics)
    expected = host.leave(metrics)
    assert isinstance(expected, Figures)
    assert not isinstance(left, Figures)
    figures = left.read()
    assert (figures.min, figures.max) == (expected.min, expected.max)
    # Logarithms of the two differ in the last bit, which tells at the edges of bins.
    assert sum(figures.counts) == sum(expected.counts) == 5_000_000
    if len(figures.counts) == len(expected.counts):
        pairs = zip(figures.counts, expected.counts, strict=True)
        assert sum(abs(one - other) for one, other in pairs) <= 5_000
    assert figures.sum == pytest.approx(expected.sum, rel=1e-3, abs=1.0)


# Several trainings, and the end of a device


def test_two_trainings_on_streams_of_their_own_do_not_meet(tmp_path: Path) -> None:
    watchers = [Watcher(), Watcher()]

    def train(number: int) -> None:
        model = nn.Linear(1, 1).to(DEVICE)
        args = arguments(tmp_path / str(number), logging_steps=1, disable_tqdm=True)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with (
            torch.cuda.stream(stream),
            TrainingRun(args, model=model, callbacks=[watchers[number]], bus=EventBus()) as run,
        ):
            for _ in run.steps([torch.ones(1)] * STEPS):
                step = run.state.global_step + 1
                run.end_step(loss=torch.full((), number * 100.0 + step, device=DEVICE))

    threads = [threading.Thread(target=train, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive()
    for number, watcher in enumerate(watchers):
        losses = [event.loss for event in watcher.of("step_end")]
        assert losses == [number * 100.0 + step for step in range(1, STEPS + 1)]


BROKEN = """
import json, sys, torch
from stepbus import Subscriber, TrainingArguments, TrainingRun

found = []

class Watcher(Subscriber):
    def on_event(self, event):
        if event.name in ("step_end", "run_failed"):
            found.append((event.name, event.step, list(event.unresolved)))

args = TrainingArguments(sys.argv[1], max_steps=50, save_strategy="no", report_to="none")
model = torch.nn.Embedding(4, 1).cuda()
try:
    with TrainingRun(args, model=model, callbacks=[Watcher()]) as run:
        for _ in run.steps([torch.ones(1)] * 50):
            index = 10_000 if run.state.global_step == 9 else 1
            loss = model(torch.tensor([index]).cuda()).sum()
            run.end_step(loss=loss.detach())
            if run.state.global_step == 5:
                assert run.bus.flush(30)
except RuntimeError as error:
    print(json.dumps({"error": str(error).splitlines()[0], "found": found}))
"""


def test_a_device_that_fails_ends_the_run_and_costs_the_values_on_their_way(
    tmp_path: Path,
) -> None:
    # Such a failure leaves the process without its device.
    script = tmp_path / "broken.py"
    script.write_text(textwrap.dedent(BROKEN), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert lines, done.stdout + done.stderr
    told = json.loads(lines[-1])
    assert "CUDA" in told["error"] or "assert" in told["error"]
    names = [name for name, _, _ in told["found"]]
    assert names[-1] == "run_failed"
    steps = [(step, lost) for name, step, lost in told["found"] if name == "step_end"]
    assert [step for step, _ in steps] == list(range(1, len(steps) + 1))
    assert all(lost == [] for step, lost in steps if step <= 5), "they had arrived before"
    assert all(lost in ([], ["loss"]) for _, lost in steps)
