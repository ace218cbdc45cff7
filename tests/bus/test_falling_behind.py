"""Subscribers that fall behind are named while they do, with what would help."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stepbus.bus import EventBus, LedgerRow, Overflow, Subscriber
from stepbus.bus.backlog import Pace
from stepbus.bus.remedies import Waiting, computes, elsewhere, fewer_events, round_up
from stepbus.bus.testing import FakeClock, Recorder
from stepbus.schemas import Event, Log, StepEnd, SubscriberBehind, TrainerState

MakeBus = Callable[..., EventBus]


class Paced:
    """A run whose subscriber handles as many events in each second as it is told to."""

    def __init__(self, make_bus: MakeBus) -> None:
        self.clock = FakeClock()
        self.bus = make_bus(clock=self.clock)
        self.permits = threading.Semaphore(0)
        self.given = 0
        self.state = TrainerState()

    def handle(self, event: Event) -> None:
        assert self.permits.acquire(timeout=60)

    def open(self) -> None:
        self.others = Recorder()
        self.bus.subscribe(SubscriberBehind)(self.others)
        self.link = self.bus.open_run(self.state)

    def warm_up(self, kind: str = "step_end") -> None:
        """One event is handled, and what was seen before is too long ago to count."""
        self.open()
        self.seconds(1, come=1, handle=1, kind=kind)
        self.clock.advance(10.0)
        self.look()

    def seconds(
        self, count: int, *, come: int, handle: int, kind: str = "step_end", steps: int = 1
    ) -> None:
        subscription = self.bus._roster.subscriptions[0]
        for _ in range(count):
            for _ in range(come):
                self.state.global_step += steps
                self.link.emit(kind, {"logs": {}} if kind == "log" else {})
            self.look()
            self.given += handle
            if handle:
                self.permits.release(handle)
            assert subscription.mailbox.wait_settled(self.given, 30)
            self.clock.advance(1.0)
            self.look()

    def look(self) -> None:
        """Has the pump hand on what was emitted, and look at the workers."""
        assert self.bus._pump is not None
        for _ in range(2):
            assert self.bus._pump.drain(30)

    def end(self) -> None:
        self.permits.release(10_000)
        assert self.bus.flush(30)

    @property
    def row(self) -> LedgerRow:
        return self.bus.ledger[0]


@pytest.fixture
def paced(make_bus: MakeBus) -> Iterator[Paced]:
    run = Paced(make_bus)
    yield run
    run.permits.release(10_000)


def test_a_function_is_named_with_the_every_that_would_do(
    paced: Paced, caplog: pytest.LogCaptureFixture
) -> None:
    paced.bus.subscribe("step_end", name="slow")(paced.handle)
    paced.warm_up()
    paced.seconds(4, come=10, handle=2)
    assert caplog.text == ""
    assert not paced.row.behind
    paced.seconds(6, come=10, handle=2)
    assert "slow falls behind: 10 events a second come, it handles 2, and 40 wait" in caplog.text
    assert "every=8 would do." in caplog.text
    assert caplog.text.count("falls behind") == 1
    assert (paced.row.behind, paced.row.fell_behind) == (True, 1)
    (event,) = paced.others.wait_for(SubscriberBehind)
    assert (event.subscriber, event.kind, event.waiting) == ("slow", "step_end", 40)
    assert (event.arriving_per_s, event.handled_per_s) == (10.0, 2.0)
    assert event.remedy == paced.row.remedy == "every=8 would do"
    paced.seconds(1, come=0, handle=75)
    paced.seconds(1, come=0, handle=5)
    assert not paced.row.behind
    assert [e.caught_up for e in paced.others.wait_for(SubscriberBehind, 2)] == [False, True]
    assert paced.row.remedy == "every=8 would do", "for the summary"


def test_a_tracker_is_named_with_the_logging_steps_that_would_do(
    paced: Paced, caplog: pytest.LogCaptureFixture
) -> None:
    class Tracker(Subscriber):
        def on_log(self, event: Log) -> None:
            paced.handle(event)

    paced.bus.subscribe(Tracker())
    paced.warm_up("log")
    paced.seconds(8, come=10, handle=2, kind="log", steps=5)
    assert "subscriber Tracker falls behind: 10 events a second come" in caplog.text
    assert "logging_steps=40 would do." in caplog.text


def test_the_event_does_not_go_to_the_one_that_it_is_about(paced: Paced) -> None:
    paced.bus.subscribe("*", name="all")(paced.handle)
    paced.warm_up()
    paced.seconds(8, come=10, handle=2)
    paced.others.wait_for(SubscriberBehind)
    assert paced.row.accepted == 81


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "latest"])
def test_one_that_drops_by_its_policy_is_not_named(
    paced: Paced, overflow: Overflow, caplog: pytest.LogCaptureFixture
) -> None:
    paced.bus.subscribe("step_end", overflow=overflow, mailbox_size=200)(paced.handle)
    paced.open()
    for _ in range(10):
        for _ in range(10):
            paced.state.global_step += 1
            paced.link.emit("step_end")
        paced.look()
        paced.clock.advance(1.0)
    assert caplog.text == ""


def test_a_long_set_up_is_not_called_falling_behind(
    paced: Paced, caplog: pytest.LogCaptureFixture
) -> None:
    class SlowToOpen(Subscriber):
        def open(self) -> None:
            paced.handle(Event(name="none"))

        def on_step_end(self, event: StepEnd) -> None:
            """Takes it."""

    paced.bus.subscribe(SlowToOpen())
    paced.open()
    paced.seconds(60, come=10, handle=0)
    paced.end()
    assert paced.row.handled == 600
    assert caplog.text == ""


def steps_waiting(kind: type[Event], count: int = 9, steps: int = 3, **fields: Any) -> Waiting:
    return Waiting([kind(step=steps * number, **fields) for number in range(count)], apart=1)


def slow(event: Event) -> None:
    """A handler."""


class OfSteps(Subscriber):
    def on_step_end(self, event: StepEnd) -> None:
        """Takes it."""


PACE = Pace(arriving=8.0, handled=2.0, waiting=90, seconds=5.0)


@pytest.mark.parametrize(
    ("kinds", "target", "waiting", "remedy"),
    [
        (["step_end"], slow, steps_waiting(StepEnd, steps=1), "every=5 would do"),
        (["step_end"], slow, steps_waiting(StepEnd, steps=3), "every=15 would do"),
        (["log"], slow, steps_waiting(Log, logs={}), "logging_steps=15 would do, or every=5"),
        ([], OfSteps(), steps_waiting(StepEnd), "@on(every=15) on its on_step_end would do"),
        (["log"], slow, steps_waiting(Log, logs={}, steps=0), "every=5 would do"),
        (["prediction_step"], slow, steps_waiting(Event, name="prediction_step"), "every=5"),
        (["*"], slow, Waiting([StepEnd(), Log(logs={})], 4), "subscribe to fewer kinds of events"),
    ],
)
def test_what_would_do_is_said_in_the_words_of_who_sets_it(
    bus: EventBus, kinds: list[str], target: Any, waiting: Waiting, remedy: str
) -> None:
    if kinds:
        bus.subscribe(*kinds)(target)
    else:
        bus.subscribe(target)
    (subscription,) = bus._roster.subscriptions
    assert fewer_events(subscription, waiting, PACE).startswith(remedy)


def test_one_that_handles_nothing_is_not_helped_by_fewer_events(bus: EventBus) -> None:
    bus.subscribe("step_end")(slow)
    (subscription,) = bus._roster.subscriptions
    standing = PACE._replace(handled=0.0)
    assert "look at what it waits for" in fewer_events(
        subscription, steps_waiting(StepEnd), standing
    )


def test_one_that_computes_is_told_where_its_work_could_go(
    paced: Paced, caplog: pytest.LogCaptureFixture
) -> None:
    paced.bus.subscribe("step_end", name="busy")(paced.handle)
    paced.warm_up()
    account = paced.bus._roster.subscriptions[0].account
    paced.seconds(2, come=10, handle=2)
    assert not computes(paced.bus._roster.subscriptions[0])
    account.cpu_s = 1e6
    paced.seconds(8, come=10, handle=2)
    assert f"it computes in Python, so {elsewhere()}" in caplog.text


@pytest.mark.parametrize(
    ("number", "rounded"), [(2, 2), (2.1, 3), (7, 8), (9.5, 10), (11, 15), (101, 150), (800, 800)]
)
def test_numbers_are_those_that_somebody_would_write(number: float, rounded: int) -> None:
    assert round_up(number) == rounded
