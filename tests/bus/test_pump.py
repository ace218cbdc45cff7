"""Order and numbers: what each subscriber sees of what was emitted."""

import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepbus.bus import EventBus, RunLink
from stepbus.bus.pump import LONG_TICKS, TICK_S
from stepbus.bus.testing import Recorder
from stepbus.schemas import Event, Log, StepEnd, TrainerState

MakeBus = Callable[..., EventBus]
KINDS = ("step_begin", "step_end", "log", "save")
VALUES: dict[str, dict[str, Any]] = {"log": {"logs": {"loss": 1.0}}}


class Marker(Event):
    name: Literal["pump_test_marker"] = "pump_test_marker"
    thread: int
    number: int


def emit(link: RunLink, kind: str) -> None:
    link.state.global_step += 1
    link.emit(kind, VALUES.get(kind, {}))


@settings(max_examples=30)
@given(
    emitted=st.lists(st.sampled_from(KINDS), max_size=60),
    wanted=st.lists(st.sets(st.sampled_from(KINDS), min_size=1), min_size=1, max_size=3),
    every=st.integers(1, 5),
)
def test_all_see_the_emission_order_and_numbers_are_dense(
    emitted: list[str], wanted: list[set[str]], every: int
) -> None:
    with EventBus(drain_timeout=10) as bus:
        recorders = [Recorder() for _ in wanted]
        for kinds, recorder in zip(wanted, recorders, strict=True):
            bus.subscribe(*sorted(kinds))(recorder)
        filtered = Recorder()
        bus.subscribe(*sorted(set().union(*wanted)), every=every)(filtered)
        link = bus.open_run(TrainerState())
        for kind in emitted:
            emit(link, kind)
        assert bus.flush(10)
        bus.close_run(link)
    heard = set().union(*wanted)
    # (step, kind) of all that somebody wants, in their order: these have the numbers 0, 1, 2 ...
    numbered = [(step, kind) for step, kind in enumerate(emitted, 1) if kind in heard]
    for kinds, recorder in zip(wanted, recorders, strict=True):
        expected = [(n, *pair) for n, pair in enumerate(numbered) if pair[1] in kinds]
        assert [(e.seq, e.step, e.name) for e in recorder.events] == expected
    for event in filtered.events:
        assert numbered[event.seq] == (event.step, event.name)
    assert [e.seq for e in filtered.events] == sorted({e.seq for e in filtered.events})
    steps = [e.step for e in filtered.events if e.name == "step_end"]
    assert steps == [
        s
        for s, kind in enumerate(emitted, 1)
        if kind == "step_end" and s % every == 0 and kind in heard
    ]


def test_threads_that_publish_keep_their_own_order(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe(Marker)(recorder)
    link = bus.open_run(TrainerState())
    together = threading.Barrier(4)

    def publish(thread: int) -> None:
        together.wait(10)
        for number in range(500):
            bus.publish(Marker(thread=thread, number=number))

    threads = [threading.Thread(target=publish, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert bus.flush(10)
    events = recorder.of(Marker)
    assert [event.seq for event in events] == list(range(2_000))
    for index in range(4):
        assert [e.number for e in events if e.thread == index] == list(range(500))
    assert {event.run_id for event in events} == {link.run_id}


def test_kinds_that_nobody_wants_take_no_number(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("log")(recorder)
    link = bus.open_run(TrainerState())
    for _ in range(3):
        emit(link, "step_end")
        bus.publish(Marker(thread=0, number=0))
        emit(link, "log")
    assert bus.flush(10)
    assert [event.seq for event in recorder.events] == [0, 1, 2]
    assert not link.emitters["step_end"].active


def test_published_and_emitted_events_share_one_counter(bus: EventBus) -> None:
    recorder = bus.subscribe(Recorder())
    state = TrainerState()
    link = bus.open_run(state, attempt=3)
    emit(link, "step_end")
    bus.publish(Marker(thread=0, number=7))
    emit(link, "step_end")
    assert bus.flush(10)
    assert [event.seq for event in recorder.events] == [0, 1, 2]
    marker = recorder.of(Marker)[0]
    assert (marker.run_id, marker.attempt, marker.step) == (link.run_id, 3, 1)
    assert marker.state.global_step == 1
    assert marker.time > 0
    assert marker.monotonic >= recorder.events[0].monotonic


def test_an_event_without_a_run_has_numbers_of_its_own(bus: EventBus) -> None:
    recorder = bus.subscribe(Recorder())
    for number in range(3):
        bus.publish(Marker(thread=0, number=number))
    assert bus.flush(10)
    assert [(e.seq, e.run_id) for e in recorder.events] == [(0, ""), (1, ""), (2, "")]


def test_several_runs_are_numbered_apart(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("step_end")(recorder)
    links = [bus.open_run(TrainerState(), run_id=name) for name in ("a", "b")]
    for _ in range(3):
        for link in links:
            emit(link, "step_end")
    assert bus.flush(10)
    for name in ("a", "b"):
        assert [e.seq for e in recorder.events if e.run_id == name] == [0, 1, 2]
    bus.publish(Marker(thread=0, number=0))


def test_a_snapshot_does_not_change_with_the_run(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("step_end")(recorder)
    state = TrainerState(max_steps=10)
    link = bus.open_run(state)
    emit(link, "step_end")
    state.best_metric = 0.5
    state.log_history.append({"loss": 1.0})
    emit(link, "step_end")
    assert bus.flush(10)
    first, second = (event.state for event in recorder.events)
    assert (first.global_step, first.best_metric, len(first.log_history)) == (1, None, 0)
    assert (second.global_step, second.best_metric, len(second.log_history)) == (2, 0.5, 1)


def test_emitting_from_another_thread_never_leaves_an_old_state_behind(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("step_end")(recorder)
    state = TrainerState()
    link = bus.open_run(state)
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            bus.publish(Marker(thread=0, number=0))

    other = threading.Thread(target=publish)
    other.start()
    for number in range(2_000):
        state.best_global_step = number
        link.emit("step_end")
    stop.set()
    other.join(10)
    assert bus.flush(20)
    assert [e.state.best_global_step for e in recorder.events] == list(range(2_000))


def test_who_subscribes_while_events_are_under_way_gets_all_that_follow(bus: EventBus) -> None:
    bus.subscribe("step_end")(lambda event: None)
    state = TrainerState()
    link = bus.open_run(state)
    recorders = []
    for number in range(1, 200):
        recorder = Recorder()
        bus.subscribe("step_end")(recorder)
        recorders.append((number, recorder))
        emit(link, "step_end")
        if number % 20 == 0:
            for _, old in recorders[-20:]:
                assert bus.flush(10)
                bus.unsubscribe(old)
    assert bus.flush(10)
    for number, recorder in recorders:
        steps = [event.step for event in recorder.events]
        assert steps == list(range(number, number + len(steps)))
        assert steps


def test_flush_covers_all_that_was_emitted_before_it(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("step_end")(recorder)
    link = bus.open_run(TrainerState())
    for round_ in range(1, 200):
        emit(link, "step_end")
        assert bus.flush(10)
        assert len(recorder.events) == round_


class Attention(threading.Event):
    """Notes how long somebody was ready to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return super().wait(timeout)


def test_the_pump_pauses_for_longer_where_it_found_nothing(
    bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, attention = Recorder(), Attention()
    bus.subscribe("step_end")(recorder)
    link = bus.open_run(TrainerState())
    monkeypatch.setattr(bus._pump, "_attention", attention)
    pauses = {TICK_S, LONG_TICKS * TICK_S}
    deadline = time.monotonic() + 20
    while set(attention.waits) != pauses:
        assert time.monotonic() < deadline, attention.waits
        before = len(attention.waits)
        for _ in range(3):
            emit(link, "step_end")
        assert bus.flush(10)
        # It waits again: once for a short while, and long where it found nothing.
        while len(attention.waits) < before + 2:
            assert time.monotonic() < deadline, attention.waits
            threading.Event().wait(0.001)


def test_an_event_that_cannot_be_built_does_not_hold_up_the_others(
    bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    bus.subscribe("log", "step_end")(recorder)
    link = bus.open_run(TrainerState())
    emit(link, "step_end")
    link.emit("log", {"logs": "not a dict"})
    emit(link, "step_end")
    assert bus.flush(10)
    assert recorder.kinds == ["step_end", "step_end"]
    assert "the pump failed on an event" in caplog.text
    assert "ValidationError" in caplog.text


def test_subclasses_come_with_their_class_and_the_closest_route_wins(bus: EventBus) -> None:
    everything, logs = Recorder(), Recorder()
    bus.subscribe(Event)(everything)
    bus.subscribe(Log)(logs)
    link = bus.open_run(TrainerState())
    emit(link, "step_end")
    emit(link, "log")
    assert bus.flush(10)
    assert everything.kinds == ["step_end", "log"]
    assert logs.kinds == ["log"]
    assert everything.events[1] is logs.events[0], "an event is built once"


def test_many_events_reach_everybody(bus: EventBus) -> None:
    counts = [0, 0, 0]

    def counter(index: int) -> Callable[[StepEnd], None]:
        def count(event: StepEnd) -> None:
            counts[index] += 1

        return count

    for index in range(3):
        bus.subscribe("step_end")(counter(index))
    link = bus.open_run(TrainerState())
    for _ in range(20_000):
        link.emit("step_end")
    assert bus.flush(30)
    assert counts == [20_000] * 3
