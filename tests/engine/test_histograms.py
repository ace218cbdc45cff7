"""Histograms of tensors: right, of whatever they are, and counted without a wait."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stepbus import EventBus, Histogram, Trainer, TrainingArguments, TrainingRun, parse_event
from stepbus.engine.metric_buffer import MetricBuffer
from stepbus.engine.scalars import histogram as counting
from stepbus.engine.scalars.histogram import BINS, Figures, upper_edge
from stepbus.engine.scalars.histogram import Histogram as Counter
from stepbus.schemas.errors import ArgumentError, StepbusError
from stepbus.subscribers import TensorBoardCallback
from tests.engine.slow_device import SlowDevice

if TYPE_CHECKING:
    from tests.engine.conftest import Loop

MakeTrainer = Callable[..., Trainer]


def counted(*tensors: torch.Tensor) -> Figures:
    counter, metrics = Counter(), MetricBuffer()
    for tensor in tensors:
        counter.add(tensor, metrics)
    left = counter.leave(metrics)
    return left if isinstance(left, Figures) else left.read()


def expected(values: list[float]) -> dict[int, int]:
    """The bins of finite values, by search in the edges rather than by logarithms."""
    edges = [upper_edge(place) for place in range(-BINS - 1, BINS + 1)]
    found: dict[int, int] = {}
    for value in values:
        # Below zero a bin has its edge that is farther from zero, as it has above.
        place = bisect.bisect_right(edges, abs(value)) - 1
        place = min(place, 2 * BINS)
        place = place if value >= 0 else 2 * BINS - place
        found[place] = found.get(place, 0) + 1
    return found


def test_the_edges_are_four_to_a_factor_of_two_and_the_same_on_both_sides() -> None:
    edges = [upper_edge(place) for place in range(-BINS - 1, BINS + 1)]
    assert edges == sorted(set(edges))
    assert edges == [-edge for edge in reversed(edges)]
    assert edges[-1] == 2.0**40
    assert edges[BINS + 1] == 2.0**-40
    assert edges[BINS + 5] / edges[BINS + 1] == 2.0


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(
        st.floats(-(2.0**45), 2.0**45, width=32).filter(
            # At an edge the logarithm may fall to either side.
            lambda x: (
                abs(x) < 2**-41 or abs(math.log2(abs(x)) * 4 - round(math.log2(abs(x)) * 4)) > 1e-4
            )
        ),
        min_size=1,
        max_size=60,
    ),
    cut=st.integers(0, 60),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_each_value_is_in_its_bin_and_the_sums_are_right(
    values: list[float], cut: int, dtype: torch.dtype
) -> None:
    figures = counted(torch.tensor(values[:cut], dtype=dtype), torch.tensor(values[cut:]).to(dtype))
    assert len(figures.edges) == len(figures.counts) + 1
    assert sum(figures.counts) == len(values)
    assert list(figures.edges) == sorted(set(figures.edges))
    assert figures.edges[0] <= min(values)
    assert max(values) <= figures.edges[-1]
    assert (figures.min, figures.max) == (min(values), max(values))
    assert figures.sum == pytest.approx(
        math.fsum(values), rel=1e-6, abs=1e-3 * max(map(abs, values))
    )
    assert figures.sum_of_squares == pytest.approx(math.fsum(v * v for v in values), rel=1e-6)
    bins = expected(values)
    assert figures.counts == tuple(bins.get(n, 0) for n in range(min(bins), max(bins) + 1))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2, 3, -3], torch.int64),
        ([True, False, True], torch.bool),
        ([1.0, 0.5, -4.0], torch.bfloat16),
        ([1.0, 0.5, -4.0], torch.float16),
        ([7, 200], torch.uint8),
    ],
)
def test_tensors_of_other_types(values: list[Any], dtype: torch.dtype) -> None:
    figures = counted(torch.tensor(values, dtype=dtype))
    assert sum(figures.counts) == len(values)
    assert (figures.min, figures.max) == (float(min(values)), float(max(values)))
    assert figures.sum == float(sum(values))


def test_what_is_not_finite_is_counted_apart() -> None:
    inf, nan = math.inf, math.nan
    figures = counted(torch.tensor([1.0, nan, inf, -inf, nan, 0.0, 0.0, -2.0]))
    assert (figures.num_nan, figures.num_inf) == (2, 2)
    assert (figures.min, figures.max, figures.sum) == (-2.0, 1.0, -1.0)
    assert sum(figures.counts) == 4
    assert max(figures.counts) == 2, "the zeros"
    nothing = counted(torch.tensor([nan, inf]))
    assert (nothing.edges, nothing.counts, nothing.num_nan, nothing.num_inf) == ((), (), 1, 1)
    assert math.isnan(nothing.min)
    assert counted(torch.tensor([])).counts == ()


def test_of_many_values_a_chunk_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    whole = counted(values)
    monkeypatch.setattr(counting, "CHUNK", 7)
    parts = counted(values.reshape(100, 100).t())
    assert parts.counts == whole.counts
    assert parts.edges == whole.edges
    assert parts.sum == pytest.approx(whole.sum)
    assert (parts.min, parts.max) == (values.min().item(), values.max().item())


class Told:
    """A loop of four steps that logs histograms, and what came of them."""

    def __init__(self, folder: Any) -> None:
        self.folder = folder
        self.events: list[Histogram] = []

    def train(self, in_step: Callable[[TrainingRun, int], object], **options: Any) -> TrainingRun:
        bus = options.pop("bus", None) or EventBus()
        bus.subscribe(Histogram)(self.events.append)
        args = TrainingArguments(
            str(self.folder), max_steps=4, save_strategy="no", report_to="none", disable_tqdm=True
        )
        with TrainingRun(args, model=torch.nn.Linear(1, 1), bus=bus, **options) as run:
            for _ in run.steps([torch.ones(1)] * 4):
                in_step(run, run.state.global_step + 1)
                run.end_step(loss=0.5)
        return run


@pytest.fixture
def told(tmp_path: Any) -> Told:
    return Told(tmp_path)


def test_a_histogram_is_an_event_of_its_step(told: Told) -> None:
    def in_step(run: TrainingRun, step: int) -> None:
        run.log_histogram("weights", torch.full((step,), 1.5))
        if step == 2:
            run.log_histogram("listed", [1.0, 2.0])

    told.train(in_step)
    assert [(e.tag, e.step, e.num) for e in told.events] == [
        ("weights", 1, 1),
        ("weights", 2, 2),
        ("listed", 2, 2),
        ("weights", 3, 3),
        ("weights", 4, 4),
    ]
    first = told.events[0]
    assert first.counts == (1,)
    assert first.edges == (2**0.5, 2**0.75)
    assert (first.sum, first.min, first.max, first.num_nan) == (1.5, 1.5, 1.5, 0)
    assert parse_event(first.to_json()) == first


def test_those_with_one_name_in_a_step_are_counted_together(told: Told) -> None:
    def in_step(run: TrainingRun, step: int) -> None:
        for value in (1.0, 2.0, 4.0):
            run.log_histogram("grads", torch.tensor([value, -value]))

    told.train(in_step)
    assert [(event.num, sum(event.counts), event.max) for event in told.events] == [(6, 6, 4.0)] * 4


def test_nobody_listening_nothing_is_counted(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Counter, "add", refuse)
    args = loop.arguments(max_steps=1, report_to="none", disable_tqdm=True)
    with TrainingRun(args, model=loop.model) as run:
        for _ in run.steps(loop.loader):
            run.log_histogram("weights", loop.model[0].weight)
            run.end_step()


@pytest.mark.parametrize("wide", [torch.float64, torch.float32])
def test_on_a_device_it_is_counted_there_and_equals_the_hosts(
    told: Told, device: SlowDevice, wide: torch.dtype
) -> None:
    values = torch.randn(1_000, generator=torch.Generator().manual_seed(2))
    values[:3] = torch.tensor([math.nan, math.inf, 0.0])
    device.wide = wide

    def in_step(run: TrainingRun, step: int) -> None:
        if step == 1:
            device.hold()
        run.log_histogram("grads", device.tensor(values))
        run.log_histogram("host", values)
        if step == 4:
            assert device.waits == []
            assert told.events == [], "what comes later is held back"
            device.release()

    told.train(in_step)
    pairs = list(zip(told.events[::2], told.events[1::2], strict=True))
    assert len(pairs) == 4
    for slow, host in pairs:
        assert (slow.counts, slow.edges, slow.num) == (host.counts, host.edges, 1_000)
        assert (slow.min, slow.max, slow.num_nan, slow.num_inf) == (host.min, host.max, 1, 1)
        assert slow.sum == pytest.approx(host.sum, rel=1e-4)
        assert slow.sum_of_squares == pytest.approx(host.sum_of_squares, rel=1e-5)
        assert slow.unresolved == ()
    assert device.waits == []


def test_under_deterministic_algorithms_it_counts_the_same(device: SlowDevice) -> None:
    values = torch.randn(500)
    torch.use_deterministic_algorithms(True)
    try:
        figures = counted(device.tensor(values))
    finally:
        torch.use_deterministic_algorithms(False)
    assert figures.counts == counted(values).counts


def test_lost_with_the_device_it_goes_out_empty(told: Told, device: SlowDevice) -> None:
    def in_step(run: TrainingRun, step: int) -> None:
        if step == 1:
            device.hold()
            run.log_histogram("grads", device.tensor([1.0]))
        if step == 2:
            device.fail(RuntimeError("CUDA error: unspecified launch failure"))

    told.train(in_step)
    (event,) = told.events
    assert (event.counts, event.edges, event.sum, event.num) == ((), (), None, 1)
    assert {"counts", "edges", "sum", "min"} <= set(event.unresolved)


def test_what_cannot_be_counted_is_refused_with_what_to_do(told: Told, device: SlowDevice) -> None:
    def in_step(run: TrainingRun, step: int) -> None:
        with pytest.raises(ArgumentError, match="real or absolute part"):
            run.log_histogram("phases", torch.tensor([1j]))
        with pytest.raises(ArgumentError, match="give a tensor, an array"):
            run.log_histogram("words", ["a", "b"])
        run.log_histogram("both", torch.tensor([1.0]))
        with pytest.raises(ArgumentError, match="a name of their own"):
            run.log_histogram("both", device.tensor([1.0]))
        device.captures = True
        with pytest.raises(StepbusError, match="while a CUDA graph is captured"):
            run.log_histogram("captured", device.tensor([1.0]))
        device.captures = False

    told.train(in_step)
    assert {event.tag for event in told.events} == {"both"}


def test_from_compute_loss_and_outside_of_training(tmp_path: Any) -> None:
    from tests.engine.trainer.conftest import Regression, Watcher, samples

    class Logs(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **named: Any) -> Any:
            outputs = model(**inputs)
            self.log_histogram("logits", outputs["logits"])
            return outputs["loss"]

    watcher = Watcher()
    args = TrainingArguments(
        str(tmp_path),
        max_steps=2,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=4,
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Logs(Regression(), args, train_dataset=samples(), callbacks=[watcher])
    trainer.train()
    trainer.log_histogram("after", torch.ones(3))
    assert [(e.tag, e.step, e.num) for e in watcher.of("histogram")] == [
        ("logits", 1, 8),
        ("logits", 2, 8),
        ("after", 2, 3),
    ]


def test_a_subclass_with_a_method_of_that_name_keeps_it(tmp_path: Any) -> None:
    from tests.engine.trainer.conftest import Regression, samples

    class Own(Trainer):
        def log_histogram(self, *given: Any) -> str:  # type: ignore[override]
            return "own"

    args = TrainingArguments(str(tmp_path), use_cpu=True, disable_tqdm=True)
    assert Own(Regression(), args, train_dataset=samples()).log_histogram() == "own"


def test_tensorboard_shows_it(told: Told, tmp_path: Any) -> None:
    values = torch.linspace(-3, 3, 101)
    told.train(
        lambda run, step: run.log_histogram("weights/head", values),
        callbacks=[TensorBoardCallback(logging_dir=tmp_path / "runs")],
    )
    board = EventAccumulator(str(tmp_path / "runs"), size_guidance={"histograms": 0})
    board.Reload()
    written = board.Histograms("weights/head")
    assert [each.step for each in written] == [1, 2, 3, 4]
    value = written[0].histogram_value
    assert (value.num, value.min, value.max) == (101, -3.0, 3.0)
    assert sum(value.bucket) == 101
    assert len(value.bucket) == len(value.bucket_limit)
