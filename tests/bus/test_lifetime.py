"""Start, stop, close: nothing is lost before them and nothing is left after them."""

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stepbus.bus import EventBus, Subscriber
from stepbus.bus.pump import Request
from stepbus.bus.testing import Recorder
from stepbus.schemas import BusClosedError, Event, StepEnd, TrainerState

MakeBus = Callable[..., EventBus]
ROOT = Path(__file__).resolve().parents[2]


def threads_of_stepbus() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("stepbus")]


def emit_steps(bus: EventBus, count: int) -> None:
    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(count):
        state.global_step += 1
        link.emit("step_end")


def test_closing_delivers_everything_and_leaves_no_thread() -> None:
    recorder = Recorder()
    with EventBus() as bus:
        bus.subscribe("step_end")(recorder)

        @bus.subscribe("step_end")
        async def asynchronous(event: StepEnd) -> None: ...

        emit_steps(bus, 1_000)
        assert sorted(threads_of_stepbus()) == [
            "stepbus-Recorder",
            "stepbus-loop",
            "stepbus-pump",
        ]
    assert len(recorder.events) == 1_000
    assert threads_of_stepbus() == []
    assert bus.closed
    assert not bus.running
    assert [row.handled for row in bus.ledger] == [1_000, 1_000]


def test_an_exception_in_the_block_comes_out_and_leaves_no_thread() -> None:
    recorder = Recorder()

    def interrupted() -> None:
        with EventBus() as bus:
            bus.subscribe("step_end")(recorder)
            emit_steps(bus, 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(recorder.events) == 10
    assert threads_of_stepbus() == []


def test_start_and_stop_may_be_repeated() -> None:
    opened: list[str] = []

    class Probe(Recorder):
        def open(self) -> None:
            opened.append("open")

        def close(self) -> None:
            opened.append("close")

    probe = Probe()
    bus = EventBus()
    bus.subscribe(probe)
    for round_ in range(1, 4):
        assert bus.start() is bus
        assert bus.start() is bus
        emit_steps(bus, 5)
        bus.stop()
        bus.stop()
        assert threads_of_stepbus() == []
        assert len(probe.events) == 5 * round_
        assert opened == ["open", "close"] * round_
    assert bus.ledger[0].handled == 15
    bus.close()
    bus.close()
    assert len(opened) == 6


def test_what_is_published_while_the_bus_stands_is_delivered_at_its_start() -> None:
    from stepbus.schemas import Log

    recorder = Recorder()
    bus = EventBus()
    bus.subscribe("log")(recorder)
    bus.publish(Log(logs={"a": 1}))
    with bus:
        recorder.wait_for("log")


def test_closing_a_bus_that_never_ran() -> None:
    bus = EventBus()
    bus.subscribe(Recorder())
    bus.close()
    assert bus.closed
    assert bus.flush()


def test_two_buses_at_once_do_not_mix() -> None:
    one, two = Recorder(), Recorder()
    with EventBus() as first, EventBus() as second:
        first.subscribe("step_end")(one)
        second.subscribe("step_end")(two)
        emit_steps(first, 3)
        emit_steps(second, 5)
    assert (len(one.events), len(two.events)) == (3, 5)


def test_what_handlers_publish_while_the_bus_drains_is_delivered() -> None:
    recorder = Recorder()
    slow = threading.Event()
    bus = EventBus().start()
    bus.subscribe("log")(recorder)

    @bus.subscribe("step_end")
    def handler(event: StepEnd) -> None:
        slow.wait(0.05)
        link.emit("log", {"logs": {"step": event.step}})

    link = bus.open_run(TrainerState())
    link.emit("step_end")
    bus.close()
    assert recorder.kinds == ["log"]


def test_a_handler_that_answers_itself_for_ever_does_not_keep_the_bus_open() -> None:
    bus = EventBus().start()

    @bus.subscribe("log")
    def echo(event: Event) -> None:
        link.emit("log", {"logs": {}})

    link = bus.open_run(TrainerState())
    link.emit("log", {"logs": {}})
    started = time.monotonic()
    bus.close(2.0)
    assert time.monotonic() - started < 6.0


def test_a_thread_that_publishes_all_the_time_does_not_keep_the_bus_open() -> None:
    from stepbus.schemas import Log

    bus = EventBus().start()
    bus.subscribe("log", overflow="latest")(lambda event: None)
    refused = threading.Event()

    def publish() -> None:
        try:
            while True:
                bus.publish(Log(logs={}))
        except BusClosedError:
            refused.set()

    publisher = threading.Thread(target=publish)
    publisher.start()
    started = time.monotonic()
    bus.close(2.0)
    assert time.monotonic() - started < 8.0
    publisher.join(10)
    assert refused.is_set()


def test_a_pump_that_did_not_get_to_the_end_of_its_queue_in_time_ends_all_the_same() -> None:
    bus = EventBus().start()
    (pump,) = (thread for thread in threading.enumerate() if thread.name == "stepbus-pump")
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        let_go.wait(30)

    bus._queue.append(Request(hold))
    assert held.wait(10)
    bus.close(0.1)
    assert pump.is_alive()
    let_go.set()
    pump.join(10)
    assert not pump.is_alive()


def test_emitting_into_a_closed_bus_keeps_nothing() -> None:
    bus = EventBus().start()
    bus.subscribe("step_end")(Recorder())
    link = bus.open_run(TrainerState())
    bus.close()
    for _ in range(100):
        link.emit("step_end")
    assert not link.emitters["step_end"].active
    assert len(bus._queue) == 0


def test_a_hung_thread_is_named_and_left_behind_and_all_others_are_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hung, release = threading.Event(), threading.Event()
    closed: list[str] = []

    class Hanging(Subscriber):
        def on_step_end(self, event: StepEnd) -> None:
            hung.set()
            release.wait(60)

    class Tidy(Recorder):
        def close(self) -> None:
            closed.append("tidy")

    bus = EventBus().start()
    bus.subscribe(Hanging())
    others = [bus.subscribe(Tidy()) for _ in range(3)]
    emit_steps(bus, 40)
    assert hung.wait(10)
    (thread,) = [t for t in threading.enumerate() if t.name == "stepbus-Hanging"]
    try:
        started = time.monotonic()
        bus.close(1.0)
        assert time.monotonic() - started < 2.0
        assert [len(other.of(StepEnd)) for other in others] == [40] * 3
        assert closed == ["tidy"] * 3
        assert "subscriber Hanging is stuck in its handler of step_end (step 1)" in caplog.text
        assert "release.wait(60)" in caplog.text, "the message shows where it stands"
        row = bus.ledger[0]
        assert (row.stuck, row.handled) == (True, 0)
        assert row.dropped == {"stuck": 39}
        assert threads_of_stepbus() == ["stepbus-Hanging"]
        assert thread.daemon
    finally:
        release.set()
        thread.join(10)
    assert not thread.is_alive()


def test_who_was_left_behind_is_not_started_a_second_time() -> None:
    hung, release = threading.Event(), threading.Event()
    bus = EventBus().start()

    @bus.subscribe("step_end", name="hanging")
    def hanging(event: StepEnd) -> None:
        hung.set()
        release.wait(60)

    emit_steps(bus, 1)
    assert hung.wait(10)
    (thread,) = [t for t in threading.enumerate() if t.name == "stepbus-hanging"]
    try:
        bus.stop(0.3)
        bus.start()
        assert threads_of_stepbus().count("stepbus-hanging") == 1
    finally:
        release.set()
        thread.join(10)
    bus.close()


def test_a_slow_backlog_is_dropped_at_the_deadline_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed: list[str] = []
    pause = threading.Event()

    class Slow(Subscriber):
        def on_step_end(self, event: StepEnd) -> None:
            pause.wait(0.02)

        def close(self) -> None:
            closed.append("slow")

    bus = EventBus().start()
    bus.subscribe(Slow())
    emit_steps(bus, 1_000)
    started = time.monotonic()
    bus.close(0.6)
    assert time.monotonic() - started < 3.0
    assert closed == ["slow"]
    row = bus.ledger[0]
    assert row.handled > 0
    assert row.handled + row.dropped["deadline"] == 1_000
    assert not row.stuck
    assert "not delivered by the deadline: Slow:" in caplog.text


@pytest.mark.slow
def test_while_it_waits_it_says_for_whom(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()
    bus = EventBus().start()

    @bus.subscribe("step_end", name="slow")
    def slow(event: StepEnd) -> None:
        release.wait(60)

    emit_steps(bus, 3)
    watchdog = threading.Timer(2.6, release.set)
    watchdog.start()
    bus.close(20.0)
    watchdog.join()
    assert "waiting for subscribers: slow (3 events left)" in caplog.text


def test_flush_says_when_it_gave_up() -> None:
    release = threading.Event()
    bus = EventBus().start()
    bus.subscribe("step_end")(lambda event: release.wait(60) and None)
    emit_steps(bus, 1)
    assert not bus.flush(0.05)
    release.set()
    assert bus.flush(10)
    bus.close()


@pytest.mark.slow
def test_nothing_is_left_for_the_garbage_collector_to_warn_of() -> None:
    program = """
import anyio, gc
from stepbus.bus import EventBus
from stepbus.bus.pump import Request
from stepbus.bus.testing import Recorder
from stepbus.schemas import TrainerState

def use(bus):
    link = bus.open_run(TrainerState())
    link.emit("step_end")
    bus.close_run(link)

for backend in ("asyncio", "trio"):
    with EventBus(backend=backend) as bus:
        bus.subscribe(Recorder())
        @bus.subscribe("step_end")
        async def handler(event): pass
        use(bus)
    del bus

    async def main():
        async with EventBus() as bus:
            @bus.subscribe("step_end")
            async def handler(event): pass
            left_early, let_go = bus.events("step_end"), bus.events("step_end")
            use(bus)
            async for event in left_early:
                break
    anyio.run(main, backend=backend)
gc.collect()
print("clean")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "clean\n", "")


def test_a_closed_bus_can_be_collected() -> None:
    import weakref

    with EventBus() as bus:
        bus.subscribe(Recorder())
        emit_steps(bus, 1)
    watched = weakref.ref(bus)
    del bus
    gc.collect()
    assert watched() is None
