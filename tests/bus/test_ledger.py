"""The ledger: what each subscriber cost."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stepbus.bus import EventBus, Ledger, LedgerRow, RunCost
from stepbus.bus.oversight import Oversight
from stepbus.bus.testing import FakeClock, Recorder
from stepbus.schemas import StepEnd, TrainerState

MakeBus = Callable[..., EventBus]


def rows_of(bus: EventBus) -> dict[str, LedgerRow]:
    return {row.subscriber: row for row in bus.ledger}


def emit_steps(bus: EventBus, count: int) -> None:
    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(count):
        state.global_step += 1
        link.emit("step_end")


def test_handled_events_and_the_rest(bus: EventBus) -> None:
    bus.subscribe("step_end", name="all")(lambda event: None)
    bus.subscribe("step_end", every=4, name="some")(lambda event: None)
    bus.subscribe("step_end", when=lambda event: event.step > 8, name="late")(lambda event: None)
    bus.subscribe("step_end", delivery="gate", name="gate")(lambda event: None)
    bus.subscribe("log", name="none")(lambda event: None)
    emit_steps(bus, 10)
    assert bus.flush(10)
    rows = rows_of(bus)
    assert [rows[name].handled for name in ("all", "some", "late", "gate", "none")] == [
        10,
        2,
        2,
        10,
        0,
    ]
    assert [row.delivery for row in bus.ledger] == ["thread", "thread", "thread", "gate", "thread"]
    assert all(row.num_dropped == row.failures == row.pending == 0 for row in rows.values())


def test_lag_is_from_emission_to_the_start_of_the_handler(make_bus: MakeBus) -> None:
    clock = FakeClock()
    bus = make_bus(clock=clock)
    started, release = threading.Event(), threading.Event()

    @bus.subscribe("step_end", name="slow")
    def slow(event: StepEnd) -> None:
        started.set()
        release.wait(30)

    emit_steps(bus, 3)
    assert started.wait(10)
    clock.advance(7.0)
    release.set()
    assert bus.flush(10)
    row = rows_of(bus)["slow"]
    assert (row.lag_s, row.max_lag_s) == (7.0, 7.0)
    emit_steps(bus, 1)
    assert bus.flush(10)
    row = rows_of(bus)["slow"]
    assert (row.lag_s, row.max_lag_s) == (0.0, 7.0)


def test_what_waits_and_what_overflowed(bus: EventBus) -> None:
    started, release = threading.Event(), threading.Event()

    @bus.subscribe("step_end", overflow="drop_oldest", mailbox_size=5, name="small")
    def small(event: StepEnd) -> None:
        started.set()
        release.wait(30)

    emit_steps(bus, 1)
    assert started.wait(10)
    emit_steps(bus, 20)
    assert bus._pump is not None
    assert bus._pump.drain(10)
    row = rows_of(bus)["small"]
    assert (row.pending, row.peak_pending, row.dropped, row.num_dropped) == (
        5,
        5,
        {"overflow": 15},
        15,
    )
    release.set()
    assert bus.flush(10)
    assert rows_of(bus)["small"].handled == 6


def test_what_went_through_the_log_is_on_record(bus: EventBus) -> None:
    started, release = threading.Event(), threading.Event()

    @bus.subscribe("step_end", mailbox_size=10, name="behind")
    def behind(event: StepEnd) -> None:
        started.set()
        release.wait(30)

    emit_steps(bus, 1)
    assert started.wait(10)
    emit_steps(bus, 10)
    assert bus._pump is not None
    assert bus._pump.drain(10)
    row = rows_of(bus)["behind"]
    assert (row.pending, row.spilled, row.bytes_on_disk) == (10, 0, 0)
    held = row.bytes_held
    emit_steps(bus, 40)
    assert bus._pump.drain(10)
    row = rows_of(bus)["behind"]
    assert (row.pending, row.peak_pending, row.spilled) == (50, 50, 40)
    assert 40 * 150 < row.bytes_on_disk < 40 * 400
    assert row.bytes_held == pytest.approx(held, rel=0.2)
    release.set()
    assert bus.flush(10)
    row = rows_of(bus)["behind"]
    assert (row.handled, row.pending, row.spilled, row.bytes_on_disk) == (51, 0, 40, 0)
    assert row.dropped == {}


def test_a_handler_that_takes_much_of_the_run_is_named_once(
    bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    bus.subscribe("step_end", name="greedy")(lambda event: None)
    clock = FakeClock()
    oversight = Oversight(clock.monotonic)
    worker: Any = bus._workforce.worker_of(bus._roster.subscriptions[0])
    account = bus._roster.subscriptions[0].account

    def look_after(seconds: float, cpu_s: float) -> None:
        clock.advance(seconds)
        account.cpu_s += cpu_s
        oversight.look(worker, 0.0)

    look_after(0, 5.0)
    look_after(29, 1.0)
    look_after(1, 0.4)
    assert caplog.text == "", "a dear beginning, and 1.4 s of 30"
    for _ in range(3):
        look_after(30, 2.7)
    assert caplog.text.count("subscriber greedy takes 9% of the run's time") == 1


def test_rows_are_frozen_and_do_not_change(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("step_end")(recorder)
    before = bus.ledger[0]
    emit_steps(bus, 5)
    assert bus.flush(10)
    assert before.handled == 0
    assert bus.ledger[0].handled == 5
    with pytest.raises(ValidationError):
        before.handled = 3


LEDGER = Ledger(
    rows=(
        LedgerRow(
            subscriber="slow",
            delivery="thread",
            handled=1_200,
            pending=30,
            peak_pending=40,
            bytes_held=48_000,
            dropped={"overflow": 7},
        ),
        LedgerRow(subscriber="Flow", delivery="gate", handled=9, handler_s=0.25),
    ),
    runs=(RunCost(run_id="r", steps=9, mean_us=21.25, p99_us=40.0, max_us=1_500.0),),
)


def test_a_row_is_found_by_place_and_by_name() -> None:
    assert LEDGER["Flow"] is LEDGER[1] is list(LEDGER)[-1]
    assert (len(LEDGER), LEDGER[:1], LEDGER.gate_s) == (2, (LEDGER["slow"],), 0.25)
    with pytest.raises(KeyError, match="'flow' is not in the ledger, which has: slow, Flow"):
        LEDGER["flow"]


def test_printed_it_is_a_table_without_columns_of_noughts() -> None:
    assert (
        str(LEDGER)
        == """\
run r, attempt 1: 9 steps
the training thread spent 21.2 us a step in stepbus (99 of 100 below 40 us, the dearest 1,500 us)
subscriber  runs on          events  its time  longest lag  waiting   memory  not delivered
slow        own thread        1,200    0.0 ms       0.0 ms       30  48.0 kB  7 overflow
Flow        training thread       9    0.25 s
slow did not get 7 events (7 overflow)"""
    )
    assert str(Ledger()) == "nobody listened"
    assert "&lt;" in Ledger(rows=(LedgerRow(subscriber="<lambda>", delivery="loop"),))._repr_html_()


def test_its_json_reads_back_and_unknown_fields_are_ignored() -> None:
    text = LEDGER.model_dump_json()
    assert Ledger.model_validate_json(text) == LEDGER
    later = text.replace('"pending":30', '"pending":30,"spilled":4')
    assert Ledger.model_validate_json(later) == LEDGER


counts = st.integers(0, 1_000)
rows = st.builds(
    LedgerRow,
    subscriber=st.just("it"),
    delivery=st.just("thread"),
    accepted=counts,
    handled=counts,
    pending=counts,
    peak_pending=counts,
    max_lag_s=st.floats(0, 9),
    dropped=st.dictionaries(st.sampled_from(["overflow", "deadline"]), counts),
    stuck=st.booleans(),
)


@given(one=rows, other=rows, third=rows)
def test_rows_of_one_subscriber_merge_in_any_grouping(
    one: LedgerRow, other: LedgerRow, third: LedgerRow
) -> None:
    both = one.merged_with(other)
    assert both.handled == one.handled + other.handled
    assert both.num_dropped == one.num_dropped + other.num_dropped
    assert both.max_lag_s == max(one.max_lag_s, other.max_lag_s)
    assert both.merged_with(third) == one.merged_with(other.merged_with(third))
