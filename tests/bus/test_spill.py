"""Mailboxes that overflow into the log: in order, nothing lost, nothing twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import PrivateAttr

from stepbus.bus import Lease, Mailbox
from stepbus.bus.log import EventLog
from stepbus.bus.round_trip import EXACT, encode_exactly, same
from stepbus.bus.spillway import KEPT_MOST, Spillway
from stepbus.schemas import Event, Log, Save, StepEnd, TrainBegin, TrainerState
from stepbus.schemas.event import UnknownEvent
from stepbus.schemas.values import FrozenDict


class Odd(Event):
    name: Literal["spill_test_odd"] = "spill_test_odd"
    anything: Any = None
    _private: Any = PrivateAttr(default=None)


class Spiky(Event):
    name: Literal["spill_test_spiky"] = "spill_test_spiky"
    ratio: float
    where: tuple[int, ...] = ()


class Rig:
    """Some mailboxes over one log, filled and emptied by hand."""

    def __init__(self, sizes: list[int], **options: Any) -> None:
        self.log = EventLog(segment_bytes=4_000, **options)
        self.spillway = Spillway(self.log)
        self.dropped: list[dict[str, int]] = [{} for _ in sizes]
        self.gone: list[list[Event]] = [[] for _ in sizes]
        self.boxes = [self._box(n, size) for n, size in enumerate(sizes)]

    def _box(self, number: int, size: int) -> Mailbox:
        def on_drop(cause: str, count: int) -> None:
            dropped = self.dropped[number]
            dropped[cause] = dropped.get(cause, 0) + count

        return Mailbox(
            "spill",
            size,
            spillway=self.spillway,
            on_drop=on_drop,
            let_go=self.gone[number].append,
        )

    def post(self, events: list[Event], to: list[list[int]] | None = None) -> None:
        """As the pump does after a slice: to each box its own, then what overflowed."""
        for number, box in enumerate(self.boxes):
            mine = [e for n, e in enumerate(events) if to is None or number in to[n]]
            if mine:
                box.put(mine)
        if self.spillway.due:
            self.spillway.write(events)

    def take(self, number: int, most: int = 10**9) -> list[Event]:
        box = self.boxes[number]
        taken: list[Event] = []
        while len(taken) < most:
            event = box.take()
            if event is not None:
                taken.append(event)
                box.settle()
            elif box.can_read_on:
                box.read_on()
            else:
                break
        return taken

    def close(self) -> None:
        for box in self.boxes:
            box.discard()
        self.log.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig([2])
    yield rig
    rig.close()


def step(number: int) -> StepEnd:
    return StepEnd(seq=number, step=number, loss=number / 3)


SLICES = st.lists(st.sets(st.integers(0, 2)), min_size=1, max_size=12)
OPERATIONS = st.lists(
    st.one_of(
        SLICES, st.tuples(st.integers(0, 2), st.integers(1, 20)), st.just("flush"), st.just("tidy")
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(OPERATIONS, st.lists(st.integers(1, 6), min_size=3, max_size=3))
def test_each_gets_its_own_in_order_once_and_each_is_written_once(
    operations: list[Any], sizes: list[int]
) -> None:
    rig = Rig(sizes)
    put: list[list[int]] = [[], [], []]
    taken: list[list[int]] = [[], [], []]
    number = 0
    try:
        for operation in operations:
            if isinstance(operation, list):
                events: list[Event] = [step(number + n) for n in range(len(operation))]
                for recipients in operation:
                    for recipient in recipients:
                        put[recipient].append(number)
                    number += 1
                rig.post(events, [sorted(recipients) for recipients in operation])
            elif operation == "flush":
                assert rig.log.flush(10)
            elif operation == "tidy":
                rig.spillway.tidy()
            else:
                recipient, most = operation
                taken[recipient] += [e.seq for e in rig.take(recipient, most)]
            for box, size in zip(rig.boxes, sizes, strict=True):
                assert box.num_in_memory <= max(size, 64)
                assert len(box) == box.accepted - box.settled
        assert rig.log.next <= number
        for recipient in range(3):
            taken[recipient] += [e.seq for e in rig.take(recipient)]
        assert taken == put
        assert rig.dropped == [{}, {}, {}]
        assert not any(box.behind for box in rig.boxes)
    finally:
        rig.close()


def test_a_mailbox_with_room_writes_nothing(rig: Rig) -> None:
    for number in range(10):
        rig.post([step(number), step(number + 1)])
        assert len(rig.take(0)) == 2
    assert rig.log.next == 0
    assert rig.log.folder is None


def test_events_come_back_equal_of_their_class_and_with_their_state(rig: Rig) -> None:
    state = TrainerState(max_steps=9)
    events: list[Event] = []
    for number in range(1, 30):
        state.global_step = number
        if number % 3 == 0:
            state.log_history.append({"step": number, "loss": 0.5})
        if number % 5 == 0:
            state.best_metric = float("nan") if number == 10 else number / 7
        if number == 12:
            state.trial_params = {"lr": 0.1, "layers": [1, 2]}
        if number == 14:
            state.stateful_callbacks = {"mine": {"tensor": np.ones(2)}}
        if number == 20:
            setattr(state, "of_a_user", "x")  # noqa: B010
        if number == 25:
            delattr(state, "of_a_user")
            state.best_metric = None
        log = Log(seq=number, step=number, epoch=number / 10, logs={"loss": float("inf")})
        events.append(log.attach_state(state.mark()))
    rig.post(events)
    assert rig.log.flush(10)
    came = rig.take(0)
    assert len(came) == len(events)
    for event, original in zip(came, events, strict=True):
        assert same(event, original)
        one, other = vars(event.state), vars(original.state)
        assert one.keys() == other.keys()
        assert all(one[k] == other[k] or same(one[k], other[k]) for k in one)
    assert came[2] is not events[2]


def test_two_runs_at_once_keep_their_states_apart(rig: Rig) -> None:
    states = [TrainerState(max_steps=1), TrainerState(max_steps=2)]
    events: list[Event] = []
    for number in range(20):
        state = states[number % 2]
        state.log_history.append({"n": number})
        with_state = step(number).attach_state(state.mark())
        events += [with_state, step(100 + number)]  # The second has no state.
    rig.post(events)
    came = rig.take(0)
    for number in range(20):
        event = came[2 * number]
        assert event.state.max_steps == 1 + number % 2
        assert [row["n"] for row in event.state.log_history] == [
            n for n in range(number + 1) if n % 2 == number % 2
        ]
        assert getattr(came[2 * number + 1], "_captured", None) is None


def test_a_state_that_changes_at_each_step_takes_no_memory(rig: Rig) -> None:
    state = TrainerState()
    for number in range(300):
        state.num_input_tokens_seen = number * 1_000_000
        rig.post([step(number).attach_state((state.rest(), 0))])
    assert rig.spillway._kept_values.values == {}
    assert len(rig.spillway._states._sources) == 1
    came = rig.take(0)
    assert [e.state.num_input_tokens_seen for e in came] == [n * 1_000_000 for n in range(300)]


def test_a_checkpoints_event_is_given_as_it_was_with_its_lease(rig: Rig) -> None:
    leases = [Lease() for _ in range(10)]
    events: list[Event] = []
    for number, lease in enumerate(leases):
        event = Save(seq=number, path=f"checkpoint-{number}")
        object.__setattr__(event, "lease", lease)
        events += [event, step(number)]
    rig.post(events)
    came = rig.take(0, 6)
    assert [e for e in came if e.name == "save"] == events[:6:2]
    assert came[4].lease is leases[2]  # type: ignore[attr-defined]
    assert rig.boxes[0].discard() == 14
    assert {id(e) for e in rig.gone[0] if e.name == "save"} == {id(e) for e in events[6::2]}


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.sets(st.integers(), max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(ANYTHING, ANYTHING)
def test_what_a_users_event_holds_comes_back_as_it_was(anything: Any, private: Any) -> None:
    rig = Rig([1])
    odd = Odd(anything=anything)
    odd._private = private
    try:
        rig.post([step(0), odd, Spiky(ratio=float("nan"), where=(1, 2)), step(1)])
        _, came, spiky, _ = rig.take(0)
        assert type(came) is Odd
        assert same(came.anything, anything)
        assert same(came._private, private)
        assert isinstance(spiky, Spiky)
        assert (str(spiky.ratio), spiky.where) == ("nan", (1, 2))
    finally:
        rig.close()


def test_what_json_would_not_give_back_is_kept_up_to_a_bound_and_then_said(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    array = np.arange(3)
    events: list[Event] = [Odd(seq=n, anything=array) for n in range(KEPT_MOST + 5)]
    rig.post([step(0), step(1), *events])
    came = rig.take(0)[2:]
    assert [e.seq for e in came] == list(range(KEPT_MOST))
    assert all(isinstance(e, Odd) and e.anything is array for e in came)
    assert rig.dropped == [{"overflow": 5}]
    assert caplog.text.count("Odd events are dropped for subscribers that fell behind") == 1


def test_a_serializer_that_raises_harms_nobody(rig: Rig) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no text")

        __str__ = __repr__

    odd = Odd(anything=Hostile())
    rig.post([step(0), step(1), odd, step(2)])
    assert rig.take(0)[2] is odd


def test_a_class_that_is_declared_again_keeps_its_events(rig: Rig) -> None:
    def declare() -> type[Event]:
        class Again(Event):
            name: Literal["spill_test_again"] = "spill_test_again"
            value: int = 0

        return Again

    first, second = declare(), declare()
    rig.post([step(0), step(1), first(value=1), second(value=2), first(value=3)])  # type: ignore[call-arg]
    assert [type(e) for e in rig.take(0)[2:]] == [first, second, first]


def test_events_of_unknown_kinds_and_with_odd_names_come_back(rig: Rig) -> None:
    events: list[Event] = [
        UnknownEvent(name="of_later", thing={"a": [1, {"b": None}]}),  # type: ignore[call-arg]
        UnknownEvent(name='q"uote\n', x=1.5),  # type: ignore[call-arg]
        TrainBegin(arguments={"path": "C:\\x", "betas": [0.9, 0.95], "x": float("nan")}),
        Log(logs={"a\\b": "\udce4", "n": 2**70, "t": True, "i": 1, "f": 1.0}),
        TrainBegin(arguments={"a": [FrozenDict({"b": (1, 2)})]}),
    ]
    rig.post([step(0), step(1), *events])
    came = rig.take(0)[2:]
    assert len(came) == len(events)
    assert all(map(same, came, events))


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "float | None": st.none() | st.floats() | st.integers(-(10**20), 10**20),
    "float": st.floats(),
    "int": st.integers(-(2**63), 2**63),
    "int | None": st.none() | st.integers(0, 2**40),
}
SCALARS = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(st.characters(codec="utf-8"))
)


@pytest.mark.parametrize("kind", [k for k in Event.known_kinds.values() if k in EXACT])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_frequent_kinds_need_no_reading_back(kind: type[Event], data: st.DataObject) -> None:
    given_: dict[str, Any] = {}
    for name, field in kind.model_fields.items():
        annotation = field.annotation
        shown = annotation.__name__ if isinstance(annotation, type) else str(annotation)
        if name in ("name", "schema_version", "unresolved", "run_id", "logs"):
            continue
        given_[name] = data.draw(FIELDS[shown], name)
    given_["unresolved"] = data.draw(st.lists(st.text(max_size=3), max_size=2))
    given_["run_id"] = data.draw(st.text(max_size=5))
    if kind is Log:
        given_["logs"] = data.draw(st.dictionaries(st.text(max_size=5), SCALARS, max_size=4))
    event = kind(**given_)
    payload = encode_exactly(event)
    assert payload is not None
    assert same(kind.__pydantic_validator__.validate_json(payload), event)


def test_records_that_the_disk_damaged_are_counted(rig: Rig) -> None:
    for number in range(100):
        rig.post([step(number)])
        if number % 10 == 0:
            assert rig.log.flush(10)
    assert rig.log.flush(10)
    path = rig.log.segments.all[0].path
    path.write_bytes(path.read_bytes().replace(b'"step":7,', b'"step":8,'))
    rig.log.segments.all[2].path.unlink()
    came = [e.seq for e in rig.take(0)]
    assert came == sorted(set(came))
    assert 7 not in came
    assert rig.dropped == [{"disk": 100 - len(came)}]
    assert 20 < len(came) < 99
    assert not rig.boxes[0].behind
    rig.post([step(1_000)])
    assert [e.seq for e in rig.take(0)] == [1_000]


def test_same_tells_types_apart() -> None:
    @dataclasses.dataclass
    class Point:
        x: int

    assert same({"a": [1, (2.5, None)], "p": Point(1)}, {"a": [1, (2.5, None)], "p": Point(1)})
    for one, other in ((1, 1.0), (1, True), ([1], (1,)), ({"a": 1}, FrozenDict({"a": 1}))):
        assert not same(one, other)
    assert not same(np.ones(2), np.ones(2))
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
