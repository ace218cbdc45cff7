"""Delivery `thread`: set-up, handlers and teardown in one thread of the subscriber's own."""

import sys
import threading
from collections.abc import Callable

import pytest

from stepbus.bus import EventBus, Subscriber
from stepbus.bus.testing import FakeClock, Recorder
from stepbus.schemas import Event, StepEnd, SubscriberFailed, TrainerState

MakeBus = Callable[..., EventBus]


class Threads(Subscriber):
    """Notes the thread of everything that is called."""

    def __init__(self) -> None:
        self.idents: dict[str, int] = {}
        self.num_handled = 0

    def open(self) -> None:
        self.idents["open"] = threading.get_ident()

    def on_step_end(self, event: StepEnd) -> None:
        self.idents["handler"] = threading.get_ident()
        self.num_handled += 1

    def close(self) -> None:
        self.idents["close"] = threading.get_ident()


def test_set_up_handlers_and_teardown_share_one_thread_of_their_own() -> None:
    probes = [Threads(), Threads()]
    with EventBus() as bus:
        for probe in probes:
            bus.subscribe(probe)
        link = bus.open_run(TrainerState())
        link.emit("step_end")
    for probe in probes:
        assert list(probe.idents) == ["open", "handler", "close"]
        assert len(set(probe.idents.values())) == 1
        assert threading.get_ident() not in probe.idents.values()


def test_set_up_is_over_when_start_returns() -> None:
    probe = Threads()
    bus = EventBus()
    bus.subscribe(probe)
    bus.start()
    assert list(probe.idents) == ["open"]
    bus.close()


def test_a_slow_handler_delays_only_itself(bus: EventBus) -> None:
    release = threading.Event()
    slow_saw: list[int] = []

    @bus.subscribe("step_end")
    def slow(event: StepEnd) -> None:
        release.wait(30)
        slow_saw.append(event.step)

    fast = Recorder()
    bus.subscribe("step_end")(fast)
    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(50):
        state.global_step += 1
        link.emit("step_end")
    fast.wait_for("step_end", 50)
    assert slow_saw == []
    release.set()
    assert bus.flush(10)
    assert slow_saw == list(range(1, 51))


def test_publishing_and_subscribing_from_a_handler_never_blocks(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("log")(recorder)

    @bus.subscribe("step_end", mailbox_size=1, overflow="drop_oldest")
    def echo(event: StepEnd) -> None:
        for _ in range(3):
            link.emit("log", {"logs": {"step": event.step}})

    @bus.subscribe("log", once=True)
    def later(event: Event) -> None:
        bus.subscribe("step_end")(recorder)

    state = TrainerState()
    link = bus.open_run(state)
    state.global_step = 1
    link.emit("step_end")
    recorder.wait_for("log", 3)
    assert bus.flush(10)
    link.emit("step_end")
    recorder.wait_for("step_end")


def test_a_handler_may_flush_and_does_not_wait_for_itself(bus: EventBus) -> None:
    flushed: list[bool] = []

    @bus.subscribe("step_end")
    def handler(event: StepEnd) -> None:
        flushed.append(bus.flush(10))

    link = bus.open_run(TrainerState())
    link.emit("step_end")
    assert bus.flush(10)
    assert flushed == [True]


def test_a_handler_that_stops_its_own_bus_is_told_so(bus: EventBus) -> None:
    @bus.subscribe("step_end")
    def handler(event: StepEnd) -> None:
        bus.close()

    recorder = Recorder()
    bus.subscribe(SubscriberFailed)(recorder)
    bus.open_run(TrainerState()).emit("step_end")
    failed = recorder.wait_for(SubscriberFailed)[0]
    assert "A handler cannot stop the bus" in failed.error
    assert bus.running


def test_even_system_exit_does_not_end_a_subscriber(bus: EventBus) -> None:
    seen: list[int] = []

    @bus.subscribe("step_end")
    def handler(event: StepEnd) -> None:
        seen.append(event.step)
        if len(seen) == 1:
            sys.exit(3)

    link = bus.open_run(TrainerState())
    link.emit("step_end")
    link.emit("step_end")
    assert bus.flush(10)
    assert len(seen) == 2
    assert bus.ledger[0].failures == 1


def test_a_handler_over_its_timeout_is_given_up_and_others_hear_of_it(
    make_bus: MakeBus, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    bus = make_bus(clock=clock)
    started, release = threading.Event(), threading.Event()
    seen: list[int] = []

    @bus.subscribe("step_end", timeout=5.0, name="hanging")
    def hanging(event: StepEnd) -> None:
        seen.append(event.step)
        started.set()
        release.wait(60)

    others = bus.subscribe(Recorder())
    state = TrainerState()
    link = bus.open_run(state)
    try:
        for _ in range(3):
            state.global_step += 1
            link.emit("step_end")
        assert started.wait(10)
        clock.advance(4.9)
        assert bus._pump is not None
        assert bus._pump.drain(10)
        clock.advance(0.2)
        failed = others.wait_for(SubscriberFailed)[0]
        assert failed.subscriber == "hanging"
        assert (failed.event_name, failed.error) == (
            "step_end",
            "the handler of step_end took over 5 s",
        )
        assert failed.quarantined
        link.emit("step_end")
        assert bus.flush(10), "nobody waits for who is stuck"
        row = next(row for row in bus.ledger if row.subscriber == "hanging")
        assert row.stuck
        assert row.dropped["stuck"] == 3
        assert "its thread is left behind" in caplog.text
    finally:
        release.set()
    bus.close()
    assert seen == [1]


def test_a_critical_subscriber_that_times_out_stops_the_run(make_bus: MakeBus) -> None:
    clock = FakeClock()
    bus = make_bus(clock=clock)
    started, release = threading.Event(), threading.Event()

    @bus.subscribe("step_end", timeout=1.0, critical=True)
    def hanging(event: StepEnd) -> None:
        started.set()
        release.wait(60)

    others = bus.subscribe(Recorder())
    link = bus.open_run(TrainerState())
    try:
        link.emit("step_end")
        assert started.wait(10)
        clock.advance(2.0)
        others.wait_for(SubscriberFailed)
        assert bus.flush(10)
        outcome = link.votes.decide("stop", 0)
        assert outcome is not None
        assert "took over 1 s" in outcome.decision.votes[0].reason
        assert outcome.decision.votes[0].critical
    finally:
        release.set()


def test_processor_time_is_counted_but_not_waiting(bus: EventBus) -> None:
    import time

    @bus.subscribe("step_end", name="burner")
    def burner(event: StepEnd) -> None:
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass

    waited = threading.Event()

    @bus.subscribe("step_end", name="waiter")
    def waiter(event: StepEnd) -> None:
        waited.wait(0.02)

    link = bus.open_run(TrainerState())
    for _ in range(3):
        link.emit("step_end")
    bus.close()
    rows = {row.subscriber: row for row in bus.ledger}
    assert rows["burner"].cpu_s >= 0.06
    assert rows["waiter"].handler_s >= 0.06
    assert rows["waiter"].cpu_s < 0.04
