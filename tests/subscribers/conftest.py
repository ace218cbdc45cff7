"""A run on a real bus, driven by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stepbus.bus import EventBus, RunLink
from stepbus.schemas import TrainerState


class HandClock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_700_000_000.0 + self.now


class LiveRun:
    """One run; each subscriber is required, so that a failing set-up fails the test."""

    def __init__(self, *subscribers: Any, clock: HandClock | None = None, **run: Any) -> None:
        self.clock = clock
        self.bus = EventBus(clock=clock)
        for subscriber in subscribers:
            self.bus.subscribe(subscriber, required=True)
        self.bus.start()
        self.state = TrainerState()
        self.link: RunLink = self.bus.open_run(self.state, **run)

    def emit(self, event: str, step: int | None = None, /, **values: Any) -> None:
        if step is not None:
            self.state.global_step = step
        self.link.emit(event, values)

    def log(self, step: int, **logs: Any) -> None:
        self.emit("log", step, logs=logs)

    def finish(self) -> None:
        assert self.bus.flush(10), "the subscribers did not catch up"
        failures = {row.subscriber: row.failures for row in self.bus.ledger if row.failures}
        self.bus.close()
        assert not failures


@pytest.fixture
def live_run() -> Iterator[Callable[..., LiveRun]]:
    runs: list[LiveRun] = []

    def start(*subscribers: Any, **options: Any) -> LiveRun:
        runs.append(LiveRun(*subscribers, **options))
        return runs[-1]

    yield start
    for run in runs:
        run.bus.close(timeout=5)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
