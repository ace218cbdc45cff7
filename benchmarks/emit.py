"""Part 1, the hot path: what one emit costs the training thread, beside other dispatchers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

from stepbus.cli.bench.figures import Figure

from .bench_bus import VALUES, Bench
from .emit_peers import PEERS, Dispatcher, Missing
from .part import Part, Tell
from .workloads import step_of

PART = "emit"
COUNTS = (0, 1, 8, 32)
BATCH = 200
"""Emits in one timed batch; the pump hands them on between batches, outside of the clock."""
MEASURE = "us an emit"
NOTE = """\
Microseconds of one emit, less an empty loop in the same interleaving; the control is that empty \
loop's first half against its second, the interval the middle half of the samples. Dispatchers \
that call their handlers at once do more within the call than stepbus, which hands over and goes \
on; bubus is timed to the end of its handlers, by the clock on the wall."""


def run(quick: bool, tell: Tell) -> Part:
    """Measures this part."""
    part = Part(
        PART,
        "The hot path: one emit on the training thread",
        notes=[NOTE],
    )
    tell("emit in a warm loop")
    part.figures += _warm_loop(60 if quick else 400, part.gaps)
    steps = 300 if quick else 3000
    for seconds, count in ((0.0004, steps), (0.005, steps // 3)):
        tell(f"one emit inside a {seconds * 1e3:g} ms step")
        part.figures += inside_a_step(seconds, count)
    return part


def _warm_loop(rounds: int, gaps: list[str]) -> list[Figure]:
    """All dispatchers with each number of handlers, in one interleaving."""
    benches: dict[tuple[str, int], Dispatcher] = {("stepbus", n): Bench(n) for n in COUNTS}
    for name, make in PEERS.items():
        try:
            benches |= {(name, count): make(count) for count in COUNTS}
        except Missing as missing:
            gaps.append(f"{name}: {missing}")
    samples: dict[tuple[str, int], list[float]] = {key: [] for key in benches}
    controls: list[float] = []
    for number in range(rounds):
        for key, bench in benches.items():
            slow = getattr(bench, "slow", False)
            if slow and number >= rounds // 20:
                continue
            controls.append(_time_nothing())
            samples[key].append(_time(bench, 5 if slow else BATCH, wall=slow))
            bench.settle()
    for bench in benches.values():
        bench.close()
    return [
        figure(f"{count} handler{'' if count == 1 else 's'}", name, taken, controls)
        for (name, count), taken in samples.items()
    ]


def _time(bench: Dispatcher, batch: int, *, wall: bool) -> float:
    clock = time.perf_counter if wall else time.thread_time
    started = clock()
    bench.emit_batch(batch)
    return (clock() - started) / batch


def _time_nothing() -> float:
    started = time.thread_time()
    for _ in range(BATCH):
        pass
    return (time.thread_time() - started) / BATCH


def inside_a_step(seconds: float, steps: int) -> list[Figure]:
    """One emit at the end of each of some real steps, where the caches are cold.

    The control is two reads of the clock with nothing between them: before the emit in every second
    step, after it in the others.
    """
    step = step_of(seconds)
    found = []
    for count in (1, 8):
        bench = Bench(count)
        emitter = bench.emitter
        samples: list[float] = []
        controls: list[float] = []
        for number in range(steps):
            step()
            if number % 2:
                started = time.perf_counter()
                controls.append(time.perf_counter() - started)
            started = time.perf_counter()
            if emitter.wanted:
                emitter.emit(VALUES)
            samples.append(time.perf_counter() - started)
            if not number % 2:
                started = time.perf_counter()
                controls.append(time.perf_counter() - started)
        bench.close()
        subject = f"stepbus, {count} subscriber{'' if count == 1 else 's'}"
        found.append(figure(f"inside a {seconds * 1e3:g} ms step", subject, samples, controls))
    return found


def figure(case: str, subject: str, samples: Sequence[float], controls: Sequence[float]) -> Figure:
    """A figure from samples in seconds: the difference of the medians."""
    base = statistics.median(controls)
    half = len(controls) // 2
    strayed = statistics.median(controls[:half]) - statistics.median(controls[half:])
    ordered = sorted(samples)
    low, high = (ordered[int(share * (len(ordered) - 1))] - base for share in (0.25, 0.75))
    return Figure(
        PART,
        case,
        subject,
        MEASURE,
        (statistics.median(ordered) - base) * 1e6,
        "us",
        control=strayed * 1e6,
        interval=(low * 1e6, high * 1e6),
        samples=len(ordered),
    )
