"""Of the events that a subscriber was to get, each is handled, failed, passed over or dropped."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepbus.bus import EventBus, LedgerRow, Overflow
from stepbus.bus.mailbox import OVERFLOWS
from stepbus.schemas import Event, TrainerState

MakeBus = Callable[..., EventBus]
Fates = list[str]


def emit_steps(bus: EventBus, count: int) -> None:
    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(count):
        state.global_step += 1
        link.emit("step_end")
    assert bus._pump is not None
    assert bus._pump.drain(10)


def adds_up(row: LedgerRow) -> bool:
    settled = row.handled + row.failed + row.passed_over + row.num_dropped
    return row.accepted == settled + row.pending


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    fates=st.lists(st.sampled_from(["handled", "fails", "passed over"]), min_size=1, max_size=40),
    overflow=st.sampled_from(OVERFLOWS),
    mailbox_size=st.integers(1, 12),
    quarantine_after=st.integers(1, 6),
    held_at=st.integers(1, 40),
    asynchronous=st.booleans(),
)
def test_nothing_that_was_accepted_is_unaccounted_for(
    make_bus: MakeBus,
    fates: Fates,
    overflow: Overflow,
    mailbox_size: int,
    quarantine_after: int,
    held_at: int,
    asynchronous: bool,
) -> None:
    bus = make_bus()
    release = threading.Event()

    def handle(event: Event) -> None:
        if event.step == held_at:
            release.wait(30)
        if fates[event.step - 1] == "fails":
            raise ValueError(event.step)

    async def handle_on_the_loop(event: Event) -> None:
        handle(event)

    handler: Callable[[Event], Any] = handle_on_the_loop if asynchronous else handle
    bus.subscribe(
        "step_end",
        name="it",
        overflow=overflow,
        mailbox_size=mailbox_size,
        quarantine_after=quarantine_after,
        when=lambda event: fates[event.step - 1] != "passed over",
    )(handler)
    emit_steps(bus, len(fates))
    release.set()
    assert bus.flush(10)
    row = bus.ledger["it"]
    assert (row.accepted, row.pending) == (len(fates), 0)
    assert adds_up(row)
    bus.close()


def test_what_was_handled_before_a_restart_stays_on_record(make_bus: MakeBus) -> None:
    bus = make_bus()
    bus.subscribe("step_end", name="it")(lambda event: None)
    for _ in range(2):
        emit_steps(bus, 5)
        bus.stop()
        bus.start()
    row = bus.ledger["it"]
    assert (row.accepted, row.handled) == (10, 10)


def test_events_for_one_that_hangs_are_accounted_for(make_bus: MakeBus) -> None:
    bus = make_bus()
    started, release = threading.Event(), threading.Event()

    @bus.subscribe("step_end", name="hanging")
    def hanging(event: Event) -> None:
        started.set()
        release.wait(60)

    emit_steps(bus, 6)
    assert started.wait(10)
    waiting = bus.ledger["hanging"]
    assert (waiting.accepted, waiting.pending, waiting.handled) == (6, 5, 0)
    bus.stop(timeout=0.2)
    row = bus.ledger["hanging"]
    release.set()
    (thread,) = [each for each in threading.enumerate() if each.name == "stepbus-hanging"]
    thread.join(10)
    assert row.stuck
    assert (row.failed, row.num_dropped) == (1, 5)
    assert adds_up(row)


@pytest.mark.parametrize("fails", [False, True])
def test_the_gate_adds_up_too(make_bus: MakeBus, fails: bool) -> None:
    bus = make_bus()

    @bus.subscribe("step_end", delivery="gate", name="it", quarantine_after=2)
    def it(event: Event) -> None:
        if fails:
            raise ValueError

    emit_steps(bus, 5)
    row = bus.ledger["it"]
    assert (row.accepted, row.handled, row.failed) == ((5, 0, 2) if fails else (5, 5, 0))
    assert adds_up(row)
