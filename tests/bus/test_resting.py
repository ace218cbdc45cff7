"""What nobody takes before a certain time is not emitted until then, and nothing else is missed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from stepbus.bus import EventBus, RunLink
from stepbus.bus.resting import EARLY_S, UNTAKEN
from stepbus.bus.testing import Recorder
from stepbus.schemas import TrainerState
from tests.subscribers.conftest import HandClock

MakeBus = Callable[..., EventBus]
INTERVAL_S = 10.0


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def bus(make_bus: MakeBus, clock: HandClock) -> EventBus:
    return make_bus(clock=clock)


def step(link: RunLink, count: int = 1) -> None:
    """As the engine emits."""
    for _ in range(count):
        link.state.global_step += 1
        if link.emitters["step_end"].active:
            link.emit("step_end")


def wait_until_wanted(link: RunLink) -> None:
    deadline = time.monotonic() + 20
    while not link.emitters["step_end"].wanted:
        assert time.monotonic() < deadline, "its rest did not end"
        time.sleep(0.001)


def test_a_kind_rests_until_shortly_before_somebody_may_take_it(
    bus: EventBus, clock: HandClock
) -> None:
    recorder = Recorder()
    bus.subscribe("step_end", interval_s=INTERVAL_S)(recorder)
    link = bus.open_run(TrainerState())
    step(link, 1 + UNTAKEN)
    assert bus.flush(10)
    assert not link.emitters["step_end"].active
    step(link, 100)
    clock.now += INTERVAL_S - EARLY_S
    wait_until_wanted(link)
    step(link)
    clock.now += EARLY_S
    step(link)
    assert bus.flush(10)
    first, last = 1, 1 + UNTAKEN + 100 + 2
    assert [event.step for event in recorder.events] == [first, last]


def test_numbers_stay_dense_for_those_who_take_all_of_another_kind(
    bus: EventBus, clock: HandClock
) -> None:
    recorder = Recorder()
    bus.subscribe("step_end", interval_s=INTERVAL_S)(lambda event: None)
    bus.subscribe("log")(recorder)
    link = bus.open_run(TrainerState())
    step(link, 1 + UNTAKEN)
    assert bus.flush(10)
    for _ in range(5):
        step(link, 10)
        link.emit("log", {"logs": {}})
    assert bus.flush(10)
    seen = [event.seq for event in recorder.events]
    assert seen == list(range(seen[0], seen[0] + 5))


def test_who_subscribes_meanwhile_hears_the_next_one(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("step_end", interval_s=INTERVAL_S)(lambda event: None)
    link = bus.open_run(TrainerState())
    step(link, 50)
    assert bus.flush(10)
    assert not link.emitters["step_end"].wanted
    bus.subscribe("step_end")(recorder)
    step(link, 50)
    assert bus.flush(10)
    assert [event.step for event in recorder.events] == list(range(51, 101))


@pytest.mark.parametrize(
    "other",
    [{}, {"every": 50}, {"once": True}, {"interval_s": INTERVAL_S, "after": 200}],
    ids=str,
)
def test_nothing_rests_where_somebody_goes_by_more_than_time(
    bus: EventBus, other: dict[str, float]
) -> None:
    recorder = Recorder()
    bus.subscribe("step_end", interval_s=INTERVAL_S)(lambda event: None)
    bus.subscribe("step_end", **other)(recorder)  # type: ignore[call-overload]
    link = bus.open_run(TrainerState())
    for _ in range(10):
        step(link, 2 * UNTAKEN)
        assert bus.flush(10)
        assert link.emitters["step_end"].wanted


def test_steps_that_are_slow_beside_the_interval_never_rest(
    bus: EventBus, clock: HandClock
) -> None:
    recorder = Recorder()
    bus.subscribe("step_end", interval_s=INTERVAL_S)(recorder)
    link = bus.open_run(TrainerState())
    for _ in range(40):
        clock.now += INTERVAL_S / UNTAKEN
        step(link)
        assert bus.flush(10)
        assert link.emitters["step_end"].wanted
    assert [event.step for event in recorder.events] == list(range(1, 41, UNTAKEN))


def test_the_gate_is_called_all_along(bus: EventBus) -> None:
    steps: list[int] = []
    bus.subscribe("step_end", interval_s=INTERVAL_S)(lambda event: None)
    bus.subscribe("step_end", delivery="gate")(lambda event: steps.append(event.step))
    link = bus.open_run(TrainerState())
    step(link, 50)
    assert bus.flush(10)
    assert not link.emitters["step_end"].wanted
    step(link, 50)
    assert steps == list(range(1, 101))


def test_another_run_of_the_bus_is_heard(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("step_end", interval_s=INTERVAL_S)(recorder)
    first = bus.open_run(TrainerState(), run_id="first")
    step(first, 50)
    assert bus.flush(10)
    second = bus.open_run(TrainerState(), run_id="second")
    step(second)
    assert bus.flush(10)
    assert [event.run_id for event in recorder.events] == ["first", "second"]


def test_a_bus_that_is_stopped_and_started_again_hears_the_run_that_is_open(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("step_end", interval_s=INTERVAL_S)(recorder)
    link = bus.open_run(TrainerState())
    step(link, 50)
    assert bus.flush(10)
    bus.stop()
    bus.start()
    assert link.emitters["step_end"].wanted
