"""Delivery `loop`: async handlers, on stepbus's own loop and on a host's, asyncio and trio."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import sniffio

from stepbus.bus import EventBus, Subscriber
from stepbus.bus.testing import Recorder
from stepbus.schemas import Event, StepEnd, SubscriberFailed, TrainerState

MakeBus = Callable[..., EventBus]
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def emit_steps(bus: EventBus, count: int = 1) -> Any:
    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(count):
        state.global_step += 1
        link.emit("step_end")
    return link


@BACKENDS
def test_handlers_run_in_order_on_a_loop_of_stepbus(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus(backend=backend)
    seen: list[tuple[int, str, str]] = []

    @bus.subscribe("step_end")
    async def handler(event: StepEnd) -> None:
        await anyio.lowlevel.checkpoint()
        library = sniffio.current_async_library()
        seen.append((event.step, library, threading.current_thread().name))

    emit_steps(bus, 200)
    assert bus.flush(10)
    assert seen == [(step, backend, "stepbus-loop") for step in range(1, 201)]


@BACKENDS
def test_several_async_subscribers_take_turns(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus(backend=backend)
    seen: list[list[int]] = [[], [], []]

    def make(index: int) -> Any:
        async def handler(event: StepEnd) -> None:
            seen[index].append(event.step)

        return handler

    for index in range(3):
        bus.subscribe("step_end")(make(index))
    emit_steps(bus, 100)
    assert bus.flush(10)
    assert seen == [list(range(1, 101))] * 3


@BACKENDS
def test_async_set_up_and_teardown_and_sync_ones_beside_async_handlers(
    make_bus: MakeBus, backend: str
) -> None:
    called: list[str] = []

    class Async(Subscriber):
        async def open(self) -> None:
            await anyio.lowlevel.checkpoint()
            called.append("async open")

        async def on_step_end(self, event: StepEnd) -> None:
            called.append("async handler")

        async def close(self) -> None:
            await anyio.lowlevel.checkpoint()
            called.append("async close")

    class Sync(Subscriber):
        def open(self) -> None:
            called.append("sync open")

        async def on_step_end(self, event: StepEnd) -> None: ...

        def close(self) -> None:
            called.append("sync close")

    bus = EventBus(backend=backend)
    bus.subscribe(Async())
    bus.subscribe(Sync())
    bus.start()
    assert sorted(called) == ["async open", "sync open"]
    emit_steps(bus)
    bus.close()
    assert sorted(called[2:]) == ["async close", "async handler", "sync close"]


@BACKENDS
def test_a_handler_over_its_timeout_is_cancelled_and_the_next_event_comes(
    make_bus: MakeBus, backend: str
) -> None:
    bus = make_bus(backend=backend)
    seen: list[int] = []

    @bus.subscribe("step_end", timeout=0.05, name="sleeper")
    async def sleeper(event: StepEnd) -> None:
        if event.step == 1:
            await anyio.sleep_forever()
        seen.append(event.step)

    others = Recorder()
    bus.subscribe(SubscriberFailed)(others)
    emit_steps(bus, 3)
    failed = others.wait_for(SubscriberFailed)[0]
    assert failed.error == "TimeoutError: the handler of step_end took over 0.05 s"
    assert bus.flush(10)
    assert seen == [2, 3]
    row = next(row for row in bus.ledger if row.subscriber == "sleeper")
    assert (row.handled, row.failures, row.stuck) == (2, 1, False)


@BACKENDS
def test_a_hung_handler_is_cancelled_at_the_close(backend: str) -> None:
    cancelled: list[str] = []
    hung = threading.Event()
    other = Recorder()

    class Hanging(Subscriber):
        async def on_step_end(self, event: StepEnd) -> None:
            hung.set()
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append("handler")

        async def close(self) -> None:
            cancelled.append("close")

    bus = EventBus(backend=backend).start()
    bus.subscribe(Hanging())
    bus.subscribe("step_end")(other)
    emit_steps(bus, 3)
    assert hung.wait(10)
    started = time.monotonic()
    bus.close(1.0)
    assert time.monotonic() - started < 5.0
    assert cancelled == ["handler", "close"]
    assert len(other.events) == 3
    row = bus.ledger[0]
    assert (row.handled, row.dropped, row.stuck) == (0, {"deadline": 3}, False)


@BACKENDS
def test_a_hung_set_up_is_given_up_and_cancelled(backend: str) -> None:
    class Hanging(Recorder):
        pass

    class HangingOpen(Subscriber):
        async def open(self) -> None:
            await anyio.sleep_forever()

        async def on_step_end(self, event: StepEnd) -> None: ...

    other = Recorder()
    bus = EventBus(backend=backend, setup_timeout=0.05)
    bus.subscribe(HangingOpen())
    bus.subscribe("step_end")(other)
    bus.start()
    assert "did not return in time" in bus.ledger[0].quarantined
    emit_steps(bus)
    started = time.monotonic()
    bus.close(1.0)
    assert time.monotonic() - started < 5.0
    assert other.kinds == ["step_end"]


@BACKENDS
def test_a_handler_that_blocks_stepbus_own_loop_is_left_behind(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    blocked, release = threading.Event(), threading.Event()
    bus = EventBus(backend=backend).start()

    @bus.subscribe("step_end", name="blocker")
    async def blocker(event: StepEnd) -> None:
        blocked.set()
        release.wait(60)

    other = Recorder()
    bus.subscribe("step_end")(other)
    emit_steps(bus, 4)
    assert blocked.wait(10)
    assert bus._workforce._loop is not None
    loop_thread = bus._workforce._loop.own_thread
    assert loop_thread is not None
    started = time.monotonic()
    bus.close(0.5)
    assert time.monotonic() - started < 5.0
    assert len(other.events) == 4
    assert "subscriber blocker blocks its event loop" in caplog.text
    row = bus.ledger[0]
    assert (row.stuck, row.dropped) == (True, {"stuck": 3})
    release.set()
    loop_thread.join(10)
    assert not loop_thread.is_alive()


async def in_thread(function: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(function)


@BACKENDS
def test_in_an_async_block_handlers_run_on_the_hosts_loop(backend: str) -> None:
    seen: list[tuple[int, str]] = []
    handled = []

    async def main() -> None:
        async with EventBus() as bus:
            here = threading.get_ident()

            @bus.subscribe("step_end")
            async def handler(event: StepEnd) -> None:
                seen.append((threading.get_ident() - here, sniffio.current_async_library()))

            await in_thread(lambda: emit_steps(bus, 3))
            await in_thread(lambda: handled.append(bus.flush(10)))
            assert len(seen) == 3
            await in_thread(lambda: emit_steps(bus, 2))
        assert len(seen) == 5, "the end of the block drains"

    anyio.run(main, backend=backend)
    assert handled == [True]
    assert set(seen) == {(0, backend)}


@BACKENDS
def test_a_blocked_host_loop_delays_only_its_own_handlers(backend: str) -> None:
    async_saw: list[int] = []
    in_time: list[int] = []

    async def main() -> None:
        async with EventBus() as bus:
            recorder = Recorder()
            bus.subscribe("step_end")(recorder)

            @bus.subscribe("step_end")
            async def handler(event: StepEnd) -> None:
                async_saw.append(event.step)

            emit_steps(bus, 5)
            # Blocks the loop: the thread is served meanwhile, the async handler is not.
            in_time.extend(e.step for e in recorder.wait_for("step_end", 5))
            assert async_saw == []
            # From the loop itself, nobody waits for what only the loop could do.
            assert bus.flush(10)
            assert async_saw == []

    anyio.run(main, backend=backend)
    assert in_time == async_saw == [1, 2, 3, 4, 5]


@BACKENDS
def test_a_cancelled_host_still_drains_and_leaves_nothing(backend: str) -> None:
    async_saw: list[int] = []
    recorder = Recorder()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with EventBus() as bus:
                bus.subscribe("step_end")(recorder)

                @bus.subscribe("step_end")
                async def handler(event: StepEnd) -> None:
                    await anyio.sleep(0.001)
                    async_saw.append(event.step)

                emit_steps(bus, 20)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    started = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - started < 8.0
    assert async_saw == list(range(1, 21))
    assert len(recorder.events) == 20


@BACKENDS
def test_an_exception_in_the_hosts_block_comes_out_as_it_is(backend: str) -> None:
    class Mine(Exception):
        pass

    async def main() -> None:
        async with EventBus() as bus:
            bus.subscribe(Recorder())
            raise Mine

    with pytest.raises(Mine):
        anyio.run(main, backend=backend)


@BACKENDS
def test_a_hung_handler_on_the_hosts_loop_is_cancelled_by_the_deadline(backend: str) -> None:
    cancelled: list[int] = []

    async def main() -> None:
        async with EventBus(drain_timeout=0.5) as bus:

            @bus.subscribe("step_end")
            async def handler(event: StepEnd) -> None:
                try:
                    await anyio.sleep_forever()
                finally:
                    cancelled.append(event.step)

            emit_steps(bus, 2)

    started = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - started < 5.0
    assert cancelled == [1]


@BACKENDS
def test_stop_and_start_inside_of_an_async_block(backend: str) -> None:
    idents: list[int] = []

    async def main() -> None:
        async with EventBus() as bus:

            @bus.subscribe("step_end")
            async def handler(event: StepEnd) -> None:
                idents.append(threading.get_ident())

            for _ in range(3):
                await in_thread(lambda: emit_steps(bus, 1))
                await in_thread(bus.stop)
                await in_thread(bus.start)
        assert idents == [threading.get_ident()] * 3

    anyio.run(main, backend=backend)


def test_a_bus_in_an_async_block_whose_set_up_fails_leaves_nothing() -> None:
    class Broken(Recorder):
        def open(self) -> None:
            raise ValueError("no server")

    async def main() -> None:
        bus = EventBus()
        bus.subscribe(Broken(), required=True)
        async with bus:
            raise AssertionError("never entered")

    with pytest.raises(Exception, match="could not be set up"):
        anyio.run(main)


@BACKENDS
@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
def test_odd_exceptions_of_a_handler_harm_nobody_else(
    make_bus: MakeBus, backend: str, error: type[BaseException]
) -> None:
    bus = make_bus(backend=backend)
    other: list[int] = []

    @bus.subscribe("step_end", name="odd")
    async def odd(event: StepEnd) -> None:
        raise error

    @bus.subscribe("step_end")
    async def handler(event: Event) -> None:
        other.append(event.step)

    emit_steps(bus, 3)
    assert bus.flush(10)
    assert other == [1, 2, 3]
    assert bus.ledger[0].failures == 3


def test_a_handler_whose_own_task_is_cancelled_is_given_up(make_bus: MakeBus) -> None:
    bus = make_bus()
    other: list[int] = []

    @bus.subscribe("step_end", name="gone")
    async def gone(event: StepEnd) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await anyio.sleep_forever()

    @bus.subscribe("step_end")
    async def handler(event: Event) -> None:
        other.append(event.step)

    emit_steps(bus, 3)
    assert bus.flush(10)
    assert other == [1, 2, 3]
    assert bus.ledger[0].quarantined == "its task was cancelled"
