"""Subscribers that fall behind, on a real bus: they get everything, in order, from the log."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepbus.bus import EventBus, Lease, RunLink
from stepbus.bus.log.scratch import PREFIX
from stepbus.bus.testing import Recorder
from stepbus.schemas import Event, Log, StepEnd, TrainerState, Vote

MakeBus = Callable[..., EventBus]


class Own(Event):
    name: Literal["reading_on_own"] = "reading_on_own"
    number: int


@pytest.fixture(autouse=True)
def temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for temporary files that no other process uses."""
    former, tempfile.tempdir = tempfile.tempdir, str(tmp_path_factory.mktemp("temporary"))
    yield
    tempfile.tempdir = former


def folders() -> set[str]:
    return {p.name for p in Path(tempfile.gettempdir()).glob(f"{PREFIX}*")}


def open_run(bus: EventBus) -> RunLink:
    return bus.open_run(TrainerState(max_steps=7))


def steps(link: RunLink, count: int) -> None:
    for _ in range(count):
        link.state.global_step += 1
        link.emit("step_end", {"loss": link.state.global_step / 3})


def handed_on(bus: EventBus) -> None:
    assert bus._pump is not None
    assert bus._pump.drain(10)


class Held:
    """A handler that waits in its first event until it is released."""

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()
        self.events: list[Any] = []

    def __call__(self, event: Event) -> None:
        self.started.set()
        assert self.release.wait(60)
        self.events.append(event)

    @property
    def steps(self) -> list[int]:
        return [event.step for event in self.events]


def test_nobody_behind_nothing_written(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("*", mailbox_size=100)(recorder)
    link = open_run(bus)
    for _ in range(50):
        steps(link, 20)
        assert bus.flush(10)
    assert len(recorder.events) == 1_000
    assert bus.event_log.next == 0
    assert bus.event_log.folder is None


def test_a_thread_that_falls_behind_reads_on_and_catches_up(bus: EventBus) -> None:
    held = Held()
    bus.subscribe("step_end", mailbox_size=10, name="held")(held)
    link = open_run(bus)
    steps(link, 1)
    assert held.started.wait(10)
    for _ in range(20):
        steps(link, 50)
        handed_on(bus)
    assert bus.ledger["held"].pending == 1_000
    held.release.set()
    assert bus.flush(30)
    assert held.steps == list(range(1, 1_002))
    assert [e.seq for e in held.events] == list(range(1_001))
    assert {e.state.max_steps for e in held.events} == {7}
    assert held.events[500].state.global_step == 501
    # It is back in memory: what comes is not written any more.
    written = bus.event_log.next
    steps(link, 5)
    assert bus.flush(10)
    assert bus.event_log.next == written
    assert held.steps[-5:] == list(range(1_002, 1_007))


def test_several_behind_share_one_log_in_which_each_event_stands_once(bus: EventBus) -> None:
    everything, some, slow = Held(), Held(), Held()
    bus.subscribe("step_end", "log", mailbox_size=3)(everything)
    bus.subscribe("step_end", every=3, mailbox_size=2)(some)
    bus.subscribe("log", mailbox_size=1)(slow)
    link = open_run(bus)
    for number in range(1, 301):
        steps(link, 1)
        link.emit("log", {"logs": {"n": number}})
        if number == 3:
            assert all(h.started.wait(10) for h in (everything, some, slow))
    handed_on(bus)
    events = [r for r in _records(bus) if r.kind == "event"]
    assert len(events) <= 600
    assert len({r.payload for r in events}) == len(events)
    for held in (slow, some, everything):
        held.release.set()
    assert bus.flush(30)
    assert everything.steps == [n for n in range(1, 301) for _ in range(2)]
    assert some.steps == list(range(3, 301, 3))
    assert [e.logs["n"] for e in slow.events] == list(range(1, 301))


def _records(bus: EventBus) -> list[Any]:
    cursor = bus.event_log.cursor(0)
    found: list[Any] = []
    while records := cursor.read():
        found += records
    cursor.close()
    return found


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kinds=st.lists(st.sampled_from(["step_end", "log", "own", "let"]), max_size=120),
    sizes=st.lists(st.integers(1, 8), min_size=3, max_size=3),
    every=st.integers(1, 4),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_every_delivery_gets_what_it_wants_whatever_overflows_when(
    make_bus: MakeBus, kinds: list[str], sizes: list[int], every: int, backend: str
) -> None:
    bus = make_bus(backend=backend)
    gate = threading.Semaphore(0)
    in_thread: list[tuple[str, int]] = []
    on_loop: list[tuple[str, int]] = []
    filtered: list[tuple[str, int]] = []
    expected: list[tuple[str, int]] = []

    @bus.subscribe("step_end", "log", Own, mailbox_size=sizes[0])
    def thread(event: Event) -> None:
        gate.acquire(timeout=60)
        in_thread.append((event.name, event.step))

    @bus.subscribe("step_end", "log", Own, mailbox_size=sizes[1])
    async def loop(event: Event) -> None:
        await anyio.lowlevel.checkpoint()
        on_loop.append((event.name, event.step))

    @bus.subscribe("step_end", "log", Own, every=every, mailbox_size=sizes[2])
    def with_filter(event: Event) -> None:
        gate.acquire(timeout=60)
        filtered.append((event.name, event.step))

    link = open_run(bus)
    for kind in kinds:
        if kind == "let":
            handed_on(bus)
            gate.release(5)
            continue
        link.state.global_step += 1
        expected.append(
            (Own.model_fields["name"].default if kind == "own" else kind, link.state.global_step)
        )
        if kind == "own":
            bus.publish(Own(number=1))
        else:
            link.emit(kind, {"logs": {}} if kind == "log" else {})
    gate.release(10_000)
    assert bus.flush(30)
    assert in_thread == on_loop == expected
    counts: dict[str, int] = {}
    wanted = []
    for kind, step in expected:
        number = counts[kind] = counts.get(kind, 0) + 1
        if (step if kind == "step_end" else number) % every == 0:
            wanted.append((kind, step))
    assert filtered == wanted
    bus.close()


def test_a_reader_of_a_stream_that_falls_behind_gets_everything_also_after_the_close(
    make_bus: MakeBus,
) -> None:
    bus = make_bus()
    before = folders()

    async def main() -> None:
        stream = bus.events("step_end", "log", mailbox_size=5)
        link = open_run(bus)
        steps(link, 300)
        link.emit("log", {"logs": {"loss": 1.0}})
        await anyio.to_thread.run_sync(bus.flush, 10)
        await anyio.to_thread.run_sync(bus.close)
        seen = [event.step async for event in stream]
        assert seen == [*range(1, 301), 300]

    anyio.run(main)
    assert folders() == before


def test_a_stream_that_is_behind_goes_on_over_a_stop_and_start(make_bus: MakeBus) -> None:
    bus = make_bus()

    async def main() -> None:
        stream = bus.events("step_end", mailbox_size=5)
        for _ in range(3):
            link = open_run(bus)
            steps(link, 100)
            await anyio.to_thread.run_sync(bus.flush, 10)
            bus.close_run(link)
            await anyio.to_thread.run_sync(bus.stop)
            bus.start()
        await anyio.to_thread.run_sync(bus.close)
        assert [event.step async for event in stream] == [*range(1, 101)] * 3

    anyio.run(main)


def test_a_stream_that_is_left_takes_its_part_of_the_log_along(make_bus: MakeBus) -> None:
    bus = make_bus()

    async def main() -> None:
        stream = bus.events("step_end", mailbox_size=5)
        steps(open_run(bus), 300)
        await anyio.to_thread.run_sync(bus.flush, 10)
        assert (await anext(stream)).step == 1
        assert bus.event_log.num_cursors == 1
        await stream.aclose()
        assert bus.event_log.num_cursors == 0

    anyio.run(main)


def test_checkpoints_read_on_keep_their_leases(bus: EventBus) -> None:
    came: list[Any] = []

    @bus.subscribe("save", "step_end", mailbox_size=1, name="reader")
    def reader(event: Event) -> None:
        if event.name == "save":
            came.append(event.lease)  # type: ignore[attr-defined]

    link = open_run(bus)
    leases = [Lease() for _ in range(3_000)]
    for lease in leases:
        steps(link, 1)
        link.emit("save", {"path": "x"}, note=lease)
    assert bus.flush(30)
    assert bus.ledger["reader"].spilled > 0
    assert came == leases
    assert {lease.holders for lease in leases} == {()}


def test_what_is_unsubscribed_is_still_handled_from_the_log(bus: EventBus) -> None:
    held = Held()
    bus.subscribe("step_end", mailbox_size=2)(held)
    steps(open_run(bus), 100)
    handed_on(bus)
    bus.unsubscribe(held)
    held.release.set()
    bus.stop()
    assert held.steps == list(range(1, 101))
    assert bus.event_log.folder is None


def test_what_is_left_at_the_deadline_is_dropped_counted_and_said(
    make_bus: MakeBus, caplog: pytest.LogCaptureFixture
) -> None:
    bus = make_bus()
    before = folders()
    lease = Lease()
    slow = threading.Event()

    @bus.subscribe("step_end", "save", mailbox_size=5, name="slow")
    def handle(event: Event) -> None:
        slow.wait(0.02)

    link = open_run(bus)
    steps(link, 5_000)
    link.emit("save", {"path": "x"}, note=lease)
    handed_on(bus)
    held_by = lease.holders
    assert held_by == ("slow",)
    bus.stop(timeout=0.5)
    row = bus.ledger["slow"]
    assert row.handled + row.dropped["deadline"] == 5_001 == row.accepted
    assert row.pending == 0
    assert lease.holders == ()
    assert f"not delivered by the deadline: slow: {row.dropped['deadline']}" in caplog.text
    assert folders() == before


def test_a_stuck_subscriber_leaves_no_folder_and_no_lease_behind(make_bus: MakeBus) -> None:
    bus = make_bus()
    before = folders()
    held = Held()
    bus.subscribe("step_end", "save", mailbox_size=5, name="stuck")(held)
    link = open_run(bus)
    lease = Lease()
    steps(link, 100)
    link.emit("save", {"path": "x"}, note=lease)
    handed_on(bus)
    assert bus.event_log.flush(10)
    assert folders() > before
    bus.stop(timeout=0.2)
    row = bus.ledger["stuck"]
    assert (row.stuck, row.dropped) == (True, {"stuck": 100})
    assert lease.holders == ()
    assert folders() == before
    held.release.set()
    thread = next(t for t in threading.enumerate() if t.name == "stepbus-stuck")
    thread.join(10)


def test_one_that_is_quarantined_reads_on_no_more(bus: EventBus) -> None:
    held = Held()

    @bus.subscribe("step_end", mailbox_size=5, name="failing", quarantine_after=2)
    def failing(event: Event) -> None:
        held(event)
        raise ValueError

    steps(open_run(bus), 500)
    handed_on(bus)
    held.release.set()
    assert bus.flush(30)
    row = bus.ledger["failing"]
    assert (row.failed, row.dropped) == (2, {"quarantine": 498})
    assert bus.event_log.num_cursors == 0


def test_votes_of_one_that_reads_on_belong_to_the_run_of_their_event(bus: EventBus) -> None:
    held = Held()

    @bus.subscribe("step_end", mailbox_size=2)
    def stop(event: StepEnd) -> Vote | None:
        held(event)
        return Vote("stop", reason="enough") if event.step == 90 else None

    link = open_run(bus)
    steps(link, 100)
    handed_on(bus)
    held.release.set()
    assert bus.flush(10)
    outcome = link.votes.decide("stop", 100)
    assert outcome is not None
    votes = [cast.vote for cast in outcome.casts]
    assert [(v.voter, v.reason, v.step) for v in votes] == [("stop", "enough", 90)]


def test_a_bus_that_starts_again_begins_an_empty_log(make_bus: MakeBus) -> None:
    bus = make_bus()
    before = folders()
    held = Held()
    bus.subscribe("step_end", mailbox_size=5)(held)
    for _ in range(3):
        link = open_run(bus)
        steps(link, 50)
        handed_on(bus)
        held.release.set()
        bus.close_run(link)
        bus.stop()
        held.release.clear()
        assert folders() == before
        bus.start()
    assert held.steps == [*range(1, 51)] * 3
    held.release.set()


def test_events_with_deferred_values_come_back_with_them(bus: EventBus) -> None:
    held = Held()
    bus.subscribe("log", mailbox_size=1)(held)
    link = open_run(bus)
    for number in range(10):
        link.emit("log", {"logs": {"loss": float(number)}})
    bus.publish(Log(logs={"mine": 1.0}))
    handed_on(bus)
    held.release.set()
    assert bus.flush(10)
    assert [dict(e.logs) for e in held.events] == [
        *({"loss": float(n)} for n in range(10)),
        {"mine": 1.0},
    ]
    assert held.events[-1].run_id == link.run_id
