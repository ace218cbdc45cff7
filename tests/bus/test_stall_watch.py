"""A step that stands still is noticed, with the place where it stands."""

from collections.abc import Callable

import pytest

from stepbus.bus import EventBus, RunLink
from stepbus.bus.stall_watch import StallWatch
from stepbus.bus.testing import FakeClock, Recorder
from stepbus.schemas import Resumed, Stalled, TrainerState

MakeBus = Callable[..., EventBus]


class Watched:
    """A run on a fake clock, and who hears of its stalls."""

    def __init__(self, bus: EventBus, clock: FakeClock, least_s: float = 60.0) -> None:
        self.bus = bus
        self.clock = clock
        self.recorder = Recorder()
        bus.subscribe(Stalled, Resumed)(self.recorder)
        self.link: RunLink = bus.open_run(TrainerState(), run_id="run")
        # A watch of its own, looked at by the test rather than once a second by the pump.
        bus._pump.unwatch(self.link)  # type: ignore[union-attr]
        self.watch = StallWatch(self.link, least_s)

    def step(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.link.pulse.durations_s.append(seconds)
        self.link.pulse.beat_s = self.clock.monotonic()

    def look(self, after_s: float) -> list[str]:
        self.clock.advance(after_s)
        self.watch.look(self.clock.monotonic())
        assert self.bus.flush(10)
        return self.recorder.kinds


@pytest.fixture
def watched(make_bus: MakeBus) -> Watched:
    clock = FakeClock()
    return Watched(make_bus(clock=clock), clock)


def test_a_stall_is_told_once_with_the_stack_and_the_going_on_too(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        watched.step(1.0)
    assert watched.look(60.0) == []
    assert watched.look(0.1) == ["stalled"]
    assert watched.look(500.0) == ["stalled"]
    stalled = watched.recorder.of(Stalled)[0]
    assert stalled.silent_s == pytest.approx(60.1)
    assert stalled.limit_s == 60.0
    assert "test_a_stall_is_told_once" in stalled.stack
    watched.step(10.0)
    assert watched.look(0.0) == ["stalled", "resumed"]
    assert watched.recorder.of(Resumed)[0].silent_s == pytest.approx(570.1)
    assert watched.look(59.0) == ["stalled", "resumed"]
    assert watched.look(2.0) == ["stalled", "resumed", "stalled"]
    assert "no step has ended for 60 s" in caplog.text
    assert "goes on after standing still for 570 s" in caplog.text


def test_slow_steps_have_a_longer_limit(watched: Watched) -> None:
    for seconds in (10.0, 10.0, 500.0):
        watched.step(seconds)
    assert watched.look(200.0) == []
    assert watched.look(0.1) == ["stalled"]
    assert watched.recorder.of(Stalled)[0].limit_s == 200.0


def test_nothing_is_a_stall_before_the_first_step_and_after_the_last(watched: Watched) -> None:
    assert watched.look(10_000.0) == []
    watched.step(1.0)
    watched.link.pulse.beat_s = None
    assert watched.look(10_000.0) == []


@pytest.mark.parametrize("busy", ["evaluating", "saving"])
def test_evaluating_and_saving_are_no_stalls(watched: Watched, busy: str) -> None:
    watched.step(1.0)
    watched.link.pulse.busy = busy
    assert watched.look(30.0) == []
    assert watched.look(5_000.0) == []
    watched.link.pulse.busy = ""
    assert watched.look(59.0) == [], "the time it was busy does not count"
    assert watched.look(2.0) == ["stalled"]


def test_the_shortest_limit_can_be_set(make_bus: MakeBus) -> None:
    clock = FakeClock()
    watched = Watched(make_bus(clock=clock), clock, least_s=5.0)
    watched.step(0.1)
    assert watched.look(5.1) == ["stalled"]


def test_the_pump_looks_even_while_events_keep_coming(make_bus: MakeBus) -> None:
    clock = FakeClock()
    bus = make_bus(clock=clock, stall_after=5.0)
    recorder = Recorder()
    bus.subscribe("stalled")(recorder)
    bus.subscribe("log", overflow="latest")(lambda event: None)
    link = bus.open_run(TrainerState())
    link.pulse.beat_s = clock.monotonic()
    clock.advance(10.0)
    for _ in range(100_000):
        link.emit("log", {"logs": {}})
        if recorder.events:
            break
    recorder.wait_for("stalled")
