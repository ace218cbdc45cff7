"""When a backlog is called falling behind: seen through a queue that is worked off by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.bus.backlog import Backlog, Mark

LOOK_EVERY_S = 0.1


class Queue:
    """A mailbox whose events come and are worked off at given rates, looked at as by the pump."""

    def __init__(self) -> None:
        self.backlog = Backlog()
        self.now = 100.0
        self.arrived = 0.0
        self.worked = 0.0
        self.changes: list[tuple[str, float]] = []

    @property
    def waiting(self) -> int:
        return math.floor(self.arrived) - math.floor(self.worked)

    def run(
        self, seconds: float, *, arriving: float, handled: float, look_every_s: float = LOOK_EVERY_S
    ) -> Queue:
        for _ in range(round(seconds / look_every_s)):
            self.now += look_every_s
            self.arrived += arriving * look_every_s
            self.worked = min(self.arrived, self.worked + handled * look_every_s)
            self.look()
        return self

    def look(self) -> None:
        mark = Mark(self.now, math.floor(self.arrived), math.floor(self.worked), self.waiting)
        change = self.backlog.look(mark)
        if change:
            self.changes.append((change, self.now - 100.0))

    @property
    def words(self) -> list[str]:
        return [change for change, _ in self.changes]


@given(
    handled=st.floats(2.0, 5_000.0),
    load=st.floats(0.0, 0.9),
    bursts=st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 9.0)), max_size=4),
    last=st.integers(1, 100_000),
)
def test_bursts_are_not_called_falling_behind(
    handled: float, load: float, bursts: list[tuple[float, float]], last: int
) -> None:
    queue = Queue().run(6, arriving=load * handled, handled=handled)
    for quiet_s, work_s in bursts:
        # Worked off long before the next: those that come as it looks are growth to it.
        queue.arrived += work_s * handled * (1 - load)
        queue.run(25 + quiet_s, arriving=load * handled, handled=handled)
    queue.arrived += last
    queue.run(30, arriving=load * handled, handled=handled)
    assert queue.changes == []


@given(handled=st.floats(2.0, 5_000.0), times=st.floats(1.5, 50.0))
def test_one_to_whom_more_comes_than_it_handles_is_named_once(handled: float, times: float) -> None:
    queue = Queue().run(60, arriving=times * handled, handled=handled)
    assert queue.words == ["behind"]
    assert queue.backlog.pace is not None
    assert queue.backlog.pace.handled == pytest.approx(handled, rel=0.3)
    assert queue.backlog.pace.arriving == pytest.approx(times * handled, rel=0.3)


@given(every_s=st.floats(2.0, 30.0), times=st.floats(1.5, 10.0))
def test_rare_events_with_slow_handlers_are_named_too(every_s: float, times: float) -> None:
    """A tracker that needs 45 s for a log, with a log every 30 s, say."""
    arriving = 1 / every_s
    queue = Queue().run(7_200, arriving=arriving, handled=arriving / times, look_every_s=1.0)
    assert queue.words == ["behind"]


@given(first_s=st.floats(0.1, 4.5), arriving=st.floats(1.0, 1_000.0))
def test_a_first_call_that_takes_long_is_not_called_falling_behind(
    first_s: float, arriving: float
) -> None:
    queue = Queue().run(first_s, arriving=arriving, handled=0)
    queue.run(30, arriving=arriving, handled=3 * arriving)
    assert queue.changes == []


def test_one_that_handles_nothing_at_all_is_named_within_a_minute() -> None:
    queue = Queue().run(30, arriving=10, handled=0)
    assert queue.words == []
    queue.run(30, arriving=10, handled=0)
    assert queue.words == ["behind"]


@pytest.mark.parametrize("then", [0.0, 50.0])
def test_it_has_caught_up_when_little_is_left_and_may_fall_behind_again(then: float) -> None:
    queue = Queue().run(30, arriving=200, handled=100)
    assert queue.words == ["behind"]
    queue.run(20, arriving=then, handled=100)
    assert queue.words == ["behind"], "two thirds, or half, of its backlog are left"
    queue.run(60, arriving=then, handled=100)
    assert queue.words == ["behind", "caught up"]
    queue.run(30, arriving=200, handled=100)
    assert queue.words == ["behind", "caught up", "behind"]


def test_a_backlog_that_stays_as_it_is_is_not_caught_up_with() -> None:
    queue = Queue().run(30, arriving=200, handled=100).run(300, arriving=100, handled=100)
    assert queue.words == ["behind"]


def test_what_was_before_a_pause_in_looking_says_nothing_of_now() -> None:
    queue = Queue().run(4, arriving=200, handled=100)
    queue.now += 3_600
    queue.arrived += 3_600
    queue.run(4, arriving=200, handled=100)
    assert queue.changes == []
