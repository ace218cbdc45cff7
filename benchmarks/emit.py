"""What one emit costs the training thread: in a warm loop, and inside a real step."""

from __future__ import annotations

import time
from collections.abc import Callable

from stepbus import EventBus, TrainerState
from stepbus.bus import RunLink
from stepbus.bus.emitter import Emitter

from .figures import Figure, figure
from .workloads import step_of

BATCH = 200
"""Emits in one timed batch; the pump hands them on between batches, outside of the clock."""
VALUES = {"loss": 1.0, "grad_norm": 1.0, "learning_rate": 1e-3, "step_s": 4e-4}


class Bench:
    """A bus with some subscribers and an open run."""

    def __init__(self, num_subscribers: int) -> None:
        self.bus = EventBus()
        for number in range(num_subscribers):
            self.bus.subscribe("step_end", name=f"subscriber-{number}", overflow="drop_oldest")(
                _ignore
            )
        self.bus.start()
        self.link: RunLink = self.bus.open_run(TrainerState())
        self.emitter: Emitter = self.link.emitters["step_end"]

    def close(self) -> None:
        """Ends the run and the bus."""
        self.bus.close_run(self.link)
        self.bus.close()


def _ignore(event: object) -> None:
    """A subscriber that does nothing."""


def warm_loop(rounds: int) -> list[Figure]:
    """Emit with nobody listening, and with 1, 8 and 32 subscribers, in one interleaving."""
    benches = {count: Bench(count) for count in (0, 1, 8, 32)}
    samples: dict[int, list[float]] = {count: [] for count in benches}
    controls: list[float] = []
    for _ in range(rounds):
        for count, bench in benches.items():
            controls.append(_time(_empty_batch, bench))
            samples[count].append(_time(_emit_batch, bench))
            bench.bus.flush(10)
    for bench in benches.values():
        bench.close()
    return [
        figure(
            f"emit, {count or 'no'} subscriber{'s' if count != 1 else ''}, warm loop",
            taken,
            controls,
            0.5 if count else 0.1,
        )
        for count, taken in samples.items()
    ]


def _time(batch: Callable[[Bench], None], bench: Bench) -> float:
    started = time.thread_time()
    batch(bench)
    return (time.thread_time() - started) / BATCH


def _emit_batch(bench: Bench) -> None:
    emitter = bench.emitter
    for _ in range(BATCH):
        if emitter.wanted:
            emitter.emit(VALUES)


def _empty_batch(bench: Bench) -> None:
    for _ in range(BATCH):
        pass


def inside_a_step(seconds: float, steps: int, budget: float) -> list[Figure]:
    """One emit between real steps, where the caches are cold, beside a clock read with nothing."""
    step = step_of(seconds)
    figures = []
    for count in (1, 8):
        bench = Bench(count)
        emitter = bench.emitter
        samples: list[float] = []
        controls: list[float] = []
        for number in range(steps):
            step()
            if number % 2:
                started = time.perf_counter()
                if emitter.wanted:
                    emitter.emit(VALUES)
                samples.append(time.perf_counter() - started)
            else:
                started = time.perf_counter()
                controls.append(time.perf_counter() - started)
        bench.close()
        plural = "s" if count > 1 else ""
        name = f"one emit inside a {seconds * 1e3:g} ms step, {count} subscriber{plural}"
        figures.append(figure(name, samples, controls, budget))
    return figures
