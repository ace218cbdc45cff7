"""The mailbox against a naive model, under every policy."""

import threading
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.bus import Mailbox, Overflow
from stepbus.schemas import ArgumentError, Event, Save, StepEnd
from stepbus.schemas.events import NEVER_DROPPED

POLICIES: tuple[Overflow, ...] = get_args(Overflow)
LOSSY: tuple[Overflow, ...] = ("drop_oldest", "drop_newest", "latest")


def step(number: int) -> StepEnd:
    return StepEnd(seq=number)


def save(number: int) -> Save:
    return Save(seq=number)


def take_all(box: Mailbox) -> list[Event]:
    return list(iter(box.take, None))


class Model:
    """What the docstring of Mailbox says, written down plainly."""

    def __init__(self, overflow: Overflow, size: int) -> None:
        self.overflow = overflow
        self.size = 1 if overflow == "latest" else size
        self.waiting: list[Event] = []
        self.dropped: list[Event] = []
        self.peak = 0

    def put(self, events: list[Event]) -> None:
        for event in events:
            if len(self.waiting) >= self.size and self.overflow != "spill":
                victim = self._victim(event)
                if victim is not None:
                    self.dropped.append(victim)
                if victim is event:
                    continue
                if victim is not None:
                    self.waiting.remove(victim)
            self.waiting.append(event)
        self.peak = max(self.peak, len(self.waiting))

    def _victim(self, event: Event) -> Event | None:
        if self.overflow in ("drop_oldest", "latest"):
            for waiting in self.waiting:
                if waiting.name not in NEVER_DROPPED:
                    return waiting
        if event.name in NEVER_DROPPED or self.overflow == "latest":
            return None
        return event


PUTS = st.lists(st.sampled_from("sssk"), max_size=6).map("".join)
OPERATIONS = st.lists(st.one_of(PUTS, st.integers(1, 5)), max_size=30)


@given(st.sampled_from(POLICIES), st.integers(1, 5), OPERATIONS)
def test_behaves_as_the_model_and_its_counts_add_up(
    overflow: Overflow, size: int, operations: list[str | int]
) -> None:
    drops: list[int] = []
    box = Mailbox(overflow, size, on_drop=lambda cause, count: drops.append(count))
    model = Model(overflow, size)
    number = put = taken = 0
    for operation in operations:
        if isinstance(operation, str):
            events: list[Event] = []
            for letter in operation:
                events.append(step(number) if letter == "s" else save(number))
                number += 1
            if events:
                assert box.put(events)
            model.put(events)
            put += len(events)
        else:
            for _ in range(operation):
                event = box.take()
                assert event is (model.waiting.pop(0) if model.waiting else None)
                if event is not None:
                    box.settle()
                    taken += 1
        assert len(box) == len(model.waiting)
        assert box.accepted == put == box.settled + len(box)
        assert sum(drops) == len(model.dropped) == box.settled - taken
        assert box.peak == model.peak
    assert [e.seq for e in box.sample(1_000)] == [e.seq for e in model.waiting]
    assert box.discard() == len(model.waiting)
    assert box.settled == box.accepted
    assert len(box) == 0
    assert not any(event.name in NEVER_DROPPED for event in model.dropped)


@pytest.mark.parametrize("overflow", POLICIES)
@pytest.mark.parametrize("kind", sorted(NEVER_DROPPED))
def test_some_kinds_are_never_dropped(overflow: Overflow, kind: str) -> None:
    required: dict[str, Any] = {
        "run_failed": {"error": "E", "message": "", "traceback": ""},
        "evaluate": {"metrics": {}},
        "predict": {"metrics": {}},
        "verdict": {"action": "save", "outcome": "acted"},
    }
    keep = Event.known_kinds[kind](**required.get(kind, {}))
    box = Mailbox(overflow, 2)
    for number in range(20):
        box.put([keep, step(number)])
    waiting = take_all(box)
    assert sum(event is keep for event in waiting) == 20
    assert len(waiting) <= (40 if overflow == "spill" else 22)


def test_drop_oldest_keeps_the_newest_and_drop_newest_the_oldest() -> None:
    oldest, newest = Mailbox("drop_oldest", 3), Mailbox("drop_newest", 3)
    for box in (oldest, newest):
        box.put([step(number) for number in range(10)])
    assert [event.seq for event in take_all(oldest)] == [7, 8, 9]
    assert [event.seq for event in take_all(newest)] == [0, 1, 2]


def test_latest_holds_one_event() -> None:
    box = Mailbox("latest", 50)
    assert box.size == 1
    box.put([step(number) for number in range(10)])
    assert len(box) == 1
    event = box.take()
    assert event is not None
    assert event.seq == 9
    assert box.peak == 1


def test_default_sizes() -> None:
    assert Mailbox().size == 4_096
    assert (Mailbox("drop_oldest").size, Mailbox("drop_newest").size) == (1_024, 1_024)


def test_what_is_thrown_away_is_let_go_of() -> None:
    gone: list[Event] = []
    box = Mailbox(let_go=gone.append)
    events = [step(number) for number in range(3)]
    box.put(events)
    assert box.take() is events[0]
    assert box.discard() == 2
    assert gone == events[1:]


def test_a_closed_mailbox_takes_nothing_and_gives_what_it_has() -> None:
    box = Mailbox()
    box.put([step(0)])
    box.close()
    assert not box.put([step(1)])
    assert box.accepted == 1
    assert box.wait()
    assert box.take() is not None
    assert box.take() is None
    assert not box.wait()


def test_waiting_for_what_is_settled() -> None:
    box = Mailbox()
    box.put([step(0), step(1)])
    assert not box.wait_settled(1, 0.0)
    for _ in range(2):
        box.take()
        box.settle()
    assert box.wait_settled(2, 0.0)


def test_a_worker_wakes_who_waits() -> None:
    box = Mailbox()
    num_events = 2_000

    def work() -> None:
        while box.settled < num_events:
            if box.take() is None:
                box.wait()
            else:
                box.settle()

    worker = threading.Thread(target=work)
    worker.start()
    for number in range(num_events):
        box.put([step(number)])
        if number % 100 == 0:
            assert box.wait_settled(number + 1, 10.0)
    assert box.wait_settled(num_events, 10.0)
    worker.join(10.0)
    assert not worker.is_alive()


@pytest.mark.parametrize("overflow", LOSSY)
def test_dropping_while_the_worker_takes_loses_no_count(overflow: Overflow) -> None:
    drops: list[int] = []
    box = Mailbox(overflow, 4, on_drop=lambda cause, count: drops.append(count))
    seen: list[int] = []

    def work() -> None:
        while box.wait():
            event = box.take()
            if event is not None:
                seen.append(event.seq)
                box.settle()

    worker = threading.Thread(target=work)
    worker.start()
    for number in range(0, 5_000, 5):
        box.put([step(number + extra) for extra in range(5)])
    box.close()
    worker.join(10.0)
    assert box.accepted == 5_000 == len(seen) + sum(drops)
    assert seen == sorted(seen)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "8"])
def test_a_size_that_is_no_positive_whole_number_is_an_error(size: Any) -> None:
    with pytest.raises(ArgumentError, match=r"mailbox_size=.* at least 1"):
        Mailbox("spill", size)


@pytest.mark.parametrize("overflow", ["newest", "buffer", None, 3])
def test_an_unknown_policy_is_an_error(overflow: Any) -> None:
    with pytest.raises(ArgumentError, match="is no policy"):
        Mailbox(overflow)
