"""Async hosts: what a training costs the loop beside it, and what readers cost the step."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio

from stepbus import run_async
from stepbus.cli.bench.comparison import CONTROL
from stepbus.cli.bench.figures import Figure
from stepbus.cli.bench.pairing import measure
from stepbus.cli.bench.turns import LoopSpec
from stepbus.engine.bench.equal_work import Work
from stepbus.engine.bench.loops import StepWatch, TurnsOver, raw, training_run
from stepbus.engine.bench.sizing import work_of

from .engines import DEADLINE_S, LONG, SHORT, compared, steady
from .hosts_loops import READERS, STUCK
from .part import Part, Tell

PART = "hosts"
LOOPS = "benchmarks.hosts_loops"
PROBE_S = 0.001
IDLE, AGAIN = "an idle loop", "an idle loop, once more"
BY_HAND = "beside a loop by hand in a thread"
OURS = "stepbus, beside await run_async(...)"
WARM_STEPS = 50
NOTE = f"""\
Latency: how much later than asked for a coroutine wakes that sleeps 1 ms at a time, in turns of \
an idle loop, a training loop by hand in a thread, and the same in a TrainingRun behind \
run_async, each 0.4 ms a step; the interval is the range of the turns. What the loop by hand \
adds is Python's own: two threads, one interpreter lock. Longest at the start: the worst wake-up \
while a training sets itself up. Readers: \
{READERS} coroutines follow the logs, {STUCK} of which stop at their first; the step \
beside the same run without readers."""


def run(quick: bool, tell: Tell) -> Part:
    """Measures this part."""
    part = Part(PART, "Async hosts: the loop beside a training, the step beside readers")
    part.notes.append(NOTE)
    rounds, seconds = (2, 0.2) if quick else (6, 0.6)
    work = work_of(SHORT.step_s, int(20 * seconds / SHORT.step_s), batch_size=SHORT.batch_size)
    for backend in ("asyncio", "trio"):
        tell(f"host-loop latency on {backend}")
        part.figures += _latency(backend, work, rounds, seconds)
    _readers(part, quick, tell)
    return part


# The loop beside a training


class _Until(StepWatch):
    """Says when a training is warm, and ends it when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.warm = threading.Event()
        self.over = threading.Event()
        self._steps = 0

    def __call__(self) -> None:
        self._steps += 1
        if self._steps == WARM_STEPS:
            self.warm.set()
        if self.over.is_set():
            raise TurnsOver


def _by_hand(work: Work, watch: StepWatch) -> None:
    with contextlib.suppress(TurnsOver):
        raw(work, watch)


def _in_a_run(work: Work, watch: StepWatch) -> None:
    training_run(work, watch, logging_steps=10)


def _latency(backend: str, work: Work, rounds: int, seconds: float) -> list[Figure]:
    late: dict[str, list[list[float]]] = {name: [] for name in (IDLE, BY_HAND, OURS, AGAIN)}
    starts: dict[str, list[float]] = {BY_HAND: [], OURS: []}

    async def main() -> None:
        trainings: dict[str, Callable[..., None]] = {BY_HAND: _by_hand, OURS: _in_a_run}
        await _beside(_in_a_run, work, 0.05)  # Imports are made once in a process.
        for _ in range(rounds):
            for name, taken in late.items():
                if name in trainings:
                    steady_ms, start_ms = await _beside(trainings[name], work, seconds)
                    starts[name].append(start_ms)
                    taken.append(steady_ms)
                else:
                    taken.append(await _probe(seconds))

    anyio.run(main, backend=backend)
    control = _quantile(late[AGAIN], 0.99)
    found = []
    for name, taken in late.items():
        for measure_, share in (("p50_ms", 0.5), ("p99_ms", 0.99)):
            each = [_quantile([one], share) for one in taken]
            found.append(
                Figure(
                    PART,
                    f"wake-ups on {backend}",
                    name,
                    measure_,
                    _quantile(taken, share),
                    "ms",
                    control=control if measure_ == "p99_ms" else None,
                    interval=(min(each), max(each)),
                    samples=sum(map(len, taken)),
                )
            )
    for name, worst in starts.items():
        found.append(
            Figure(
                PART,
                f"wake-ups on {backend}",
                name,
                "longest at the start",
                statistics.median(worst),
                "ms",
                interval=(min(worst), max(worst)),
                samples=len(worst),
            )
        )
    return found


async def _beside(
    train: Callable[..., None], work: Work, seconds: float
) -> tuple[list[float], float]:
    """How late wake-ups were beside a training that is warm, and the latest until it was, ms."""
    watch = _Until()
    steady_ms: list[float] = []
    start_ms: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_async, train, work, watch)
        while not watch.warm.is_set():
            start_ms += await _probe(0.01)
        steady_ms += await _probe(seconds)
        watch.over.set()
    return steady_ms, max(start_ms, default=0.0)


async def _probe(seconds: float) -> list[float]:
    """How late a coroutine woke that sleeps 1 ms at a time, ms."""
    late = []
    end_s = time.perf_counter() + seconds
    while (begun_s := time.perf_counter()) < end_s:
        await anyio.sleep(PROBE_S)
        late.append(1e3 * (time.perf_counter() - begun_s - PROBE_S))
    return late


def _quantile(taken: list[list[float]], share: float) -> float:
    every = sorted(value for one in taken for value in one)
    return every[min(len(every) - 1, int(share * len(every)))]


# The step beside readers


def _readers(part: Part, quick: bool, tell: Tell) -> None:
    cases: list[tuple[Any, int]] = [(SHORT, 10)] if quick else [(SHORT, 10), (LONG, 10), (LONG, 1)]
    for length, logging_steps in cases:
        options = {"logging_steps": logging_steps}
        specs = [
            LoopSpec(f"{LOOPS}:unread", options, "no readers"),
            LoopSpec(f"{LOOPS}:unread", options, CONTROL),
            LoopSpec(f"{LOOPS}:read", {**options, "backend": "asyncio"}, "stepbus, 100 readers"),
        ]
        every = "each step" if logging_steps == 1 else f"every {logging_steps} steps"
        tell(f"readers at a {length.name}, a log {every}")
        seconds = len(specs) * (1.2 if quick else 4.0)
        taken = measure(specs, [steady(length, seconds)], seed=0, deadline_s=DEADLINE_S)
        case = f"{length.name}, a log {every}"
        part.figures += compared(PART, case, specs, taken)
        part.notes += [
            f"{spec.name}, {case}: {steps.facts['read']:,} events were read"
            for spec, steps in zip(specs, taken[0], strict=True)
            if "read" in steps.facts
        ]
