"""Filters against a naive model."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.bus import EventBus, Filter
from stepbus.bus.filters import FilterCounts
from stepbus.bus.testing import FakeClock, Recorder
from stepbus.schemas import ArgumentError, StepEnd, TrainerState

COUNT = st.none() | st.integers(1, 7)


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "every": draw(COUNT),
        "once": draw(st.booleans() | st.integers(1, 9)),
        "after": draw(st.none() | st.integers(0, 9)),
        "interval_s": draw(st.none() | st.integers(1, 4)),
    }
    least = (chosen["after"] or 0) + 2
    chosen["before"] = draw(st.none() | st.integers(least, least + 9))
    return chosen


def model(chosen: dict[str, Any], numbers: list[int], times: list[float]) -> list[int]:
    """Positions of the events that pass: each rule in turn, as its documentation says."""
    passed: list[int] = []
    last = -math.inf
    for position, (number, now) in enumerate(zip(numbers, times, strict=True)):
        ok = chosen["every"] is None or number % chosen["every"] == 0
        ok = ok and (chosen["after"] is None or number > chosen["after"])
        ok = ok and (chosen["before"] is None or number < chosen["before"])
        if chosen["once"] is True:
            ok = ok and not passed
        elif chosen["once"] is not False:
            ok = ok and number == chosen["once"]
        if ok and chosen["interval_s"] is not None:
            ok = now - last >= chosen["interval_s"]
        if ok:
            last = now
            passed.append(position)
    return passed


def passing(chosen: Filter, kind: str, places: list[tuple[int, float]], times: list[float]) -> Any:
    counts = FilterCounts()
    return [
        position
        for position, ((step, epoch), now) in enumerate(zip(places, times, strict=True))
        if counts.takes(chosen, kind, step, epoch, now)
    ]


TIMES = st.lists(st.integers(0, 3), min_size=20, max_size=20).map(
    lambda gaps: [float(sum(gaps[: index + 1])) for index in range(20)]
)


@given(filters(), st.integers(0, 50), TIMES)
def test_steps_are_numbered_by_the_step_also_after_a_resume(
    chosen: dict[str, Any], resumed_at: int, times: list[float]
) -> None:
    numbers = [resumed_at + 1 + index for index in range(20)]
    for kind, behind in (("step_end", 0), ("step_begin", 1), ("optimizer_step", 1)):
        places = [(number - behind, 0.0) for number in numbers]
        assert passing(Filter(**chosen), kind, places, times) == model(chosen, numbers, times)


@given(filters(), st.integers(0, 50), TIMES)
def test_epochs_are_numbered_by_the_epoch_also_after_a_resume(
    chosen: dict[str, Any], resumed_at: int, times: list[float]
) -> None:
    numbers = [resumed_at + 1 + index for index in range(20)]
    begins = [(0, float(number - 1)) for number in numbers]
    ends = [(0, float(number)) for number in numbers]
    expected = model(chosen, numbers, times)
    assert passing(Filter(**chosen), "epoch_begin", begins, times) == expected
    assert passing(Filter(**chosen), "epoch_end", ends, times) == expected


@given(filters(), TIMES)
def test_all_else_is_numbered_by_its_occurrence(chosen: dict[str, Any], times: list[float]) -> None:
    places = [(700, 1.5)] * 20
    numbers = list(range(1, 21))
    for kind in ("evaluate", "log", "my_own"):
        assert passing(Filter(**chosen), kind, places, times) == model(chosen, numbers, times)


@pytest.mark.parametrize("steps_per_epoch", [3, 7, 10, 49])
def test_rounding_of_fractional_epochs_changes_no_number(steps_per_epoch: int) -> None:
    third = Filter(once=3)
    epoch = 0.0
    begins, ends = FilterCounts(), FilterCounts()
    begun, ended = [], []
    for number in range(1, 6):
        begun.append(begins.takes(third, "epoch_begin", 0, epoch))
        for _ in range(steps_per_epoch):
            epoch += 1 / steps_per_epoch
        ended.append(ends.takes(third, "epoch_end", 0, epoch))
        assert (begun[-1], ended[-1]) == (number == 3, number == 3)


def test_an_epoch_cut_short_has_the_number_of_the_one_it_belongs_to() -> None:
    assert FilterCounts().takes(Filter(once=2), "epoch_end", 5, 1.25)
    assert FilterCounts().takes(Filter(once=1), "epoch_end", 0, 0.0)


def test_kinds_are_counted_apart() -> None:
    counts = FilterCounts()
    once = Filter(once=True)
    assert [counts.takes(once, kind, 0, 0.0) for kind in ("log", "save", "log", "save")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("name", ["every", "once", "before"])
@pytest.mark.parametrize("value", [0, -3, 2.0, "5"])
def test_a_count_that_is_no_positive_whole_number_is_an_error(name: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=f"{name}={value!r}: give a whole number"):
        Filter(**{name: value})


@pytest.mark.parametrize("value", [-1, 0.5])
def test_after_is_a_whole_number_from_zero(value: Any) -> None:
    assert Filter(after=0).takes(1, 0)
    with pytest.raises(ArgumentError, match="after="):
        Filter(after=value)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, "1", True])
def test_an_interval_that_is_not_positive_is_an_error(value: Any) -> None:
    with pytest.raises(ArgumentError, match="interval_s="):
        Filter(interval_s=value)


def test_an_empty_range_is_an_error() -> None:
    with pytest.raises(ArgumentError, match="leave no event between them"):
        Filter(after=5, before=6)


def test_a_predicate_that_is_no_function_is_an_error() -> None:
    not_a_function: Any = "loss > 3"
    with pytest.raises(ArgumentError, match="when="):
        Filter(when=not_a_function)


def test_a_predicate_is_evaluated_where_the_handler_runs(bus: EventBus) -> None:
    threads: list[set[int]] = [set(), set()]

    def odd(event: StepEnd) -> bool:
        threads[0].add(threading.get_ident())
        return event.step % 2 == 1

    seen: list[int] = []

    @bus.subscribe("step_end", when=odd)
    def handler(event: StepEnd) -> None:
        threads[1].add(threading.get_ident())
        seen.append(event.step)

    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(6):
        state.global_step += 1
        link.emit("step_end")
    assert bus.flush(10)
    assert seen == [1, 3, 5]
    assert threads[0] == threads[1]
    assert len(threads[0]) == 1
    assert threading.get_ident() not in threads[0]


def test_counts_begin_anew_with_each_run(make_bus: Callable[..., EventBus]) -> None:
    clock = FakeClock()
    bus = make_bus(clock=clock)
    first, slow = Recorder(), Recorder()
    bus.subscribe("evaluate", once=True)(first)
    bus.subscribe("evaluate", interval_s=10)(slow)
    for run_id in ("one", "two"):
        link = bus.open_run(TrainerState(), run_id=run_id)
        for _ in range(4):
            link.emit("evaluate", {"metrics": {}})
            clock.advance(6.0)
        bus.close_run(link)
    assert bus.flush(10)
    assert [event.run_id for event in first.events] == ["one", "two"]
    assert [event.run_id for event in slow.events] == ["one", "one", "two", "two"]
