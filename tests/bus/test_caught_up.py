"""Batches: what handlers collect is handed on once nothing more waits; an outage is waited out."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from stepbus.bus import EventBus, Subscriber
from stepbus.schemas import Log, TrainerState, UnreachableError


class Batching(Subscriber):
    """Collects the steps of logs; each call of `caught_up` is one batch."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.collected: list[int] = []
        self.batches: list[list[int]] = []
        self.refusals = 0
        self.changed = threading.Condition()

    def on_log(self, event: Log) -> None:
        assert self.gate.wait(30)
        self.collected.append(event.step)

    def caught_up(self) -> float | None:
        if self.refusals:
            self.refusals -= 1
            raise UnreachableError("nobody there")
        if self.collected:
            with self.changed:
                self.batches.append(self.collected)
                self.collected = []
                self.changed.notify_all()
        return None

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: sum(map(len, self.batches)) >= count, 30)


def log(bus: EventBus, link: Any, state: TrainerState, first: int, last: int) -> None:
    for step in range(first, last + 1):
        state.global_step = step
        link.emit("log", {"logs": {"loss": 1.0}})


def test_what_came_while_it_was_busy_is_one_batch() -> None:
    batching = Batching()
    with EventBus() as bus:
        bus.subscribe(batching)
        state = TrainerState()
        link = bus.open_run(state)
        log(bus, link, state, 1, 50)
        batching.gate.set()
        batching.wait_for(50)
        log(bus, link, state, 51, 51)
        batching.wait_for(51)
    assert [step for batch in batching.batches for step in batch] == list(range(1, 52))
    assert batching.batches[-1] == [51]


def test_an_outage_is_waited_out_in_place_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batching = Batching()
    batching.refusals = 3
    batching.gate.set()
    with EventBus() as bus:
        bus.subscribe(batching)
        state = TrainerState()
        link = bus.open_run(state)
        log(bus, link, state, 1, 5)
        batching.wait_for(5)
        row = bus.ledger["Batching"]
        assert (row.failures, row.quarantined) == (0, "")
    assert [step for batch in batching.batches for step in batch] == [1, 2, 3, 4, 5]
    assert caplog.text.count("Batching gets no answer") == 1
    assert caplog.text.count("Batching is answered again") == 1


def test_a_handler_that_gets_no_answer_is_called_again_with_the_same_event() -> None:
    class Calls(Subscriber):
        def __init__(self) -> None:
            self.steps: list[int] = []

        def on_log(self, event: Log) -> None:
            self.steps.append(event.step)
            if self.steps.count(1) < 3:
                raise UnreachableError("nobody there")

    calls = Calls()
    with EventBus() as bus:
        bus.subscribe(calls)
        state = TrainerState()
        link = bus.open_run(state)
        log(bus, link, state, 1, 2)
        assert bus.flush(30)
        assert bus.ledger["Calls"].failures == 0
    assert calls.steps == [1, 1, 1, 2]


def test_the_deadline_ends_the_waiting_and_close_is_still_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Deaf(Batching):
        closed = False

        def close(self) -> None:
            self.closed = True
            raise UnreachableError("1 batch is not delivered")

    deaf = Deaf()
    deaf.refusals = 1_000_000
    deaf.gate.set()
    with EventBus(drain_timeout=0.3) as bus:
        bus.subscribe(deaf)
        state = TrainerState()
        link = bus.open_run(state)
        log(bus, link, state, 1, 5)
    assert deaf.closed
    assert "Deaf got no answer in its close(): 1 batch is not delivered" in caplog.text
    assert "Traceback" not in caplog.text
