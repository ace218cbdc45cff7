"""`async for event in bus.events(...)`, on asyncio and trio."""

import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import pytest

from stepbus.bus import EventBus, Lease, RunLink
from stepbus.bus.testing import Recorder
from stepbus.schemas import BusClosedError, Event, StepEnd, TrainEnd, TrainerState

MakeBus = Callable[..., EventBus]
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def emit_steps(bus: EventBus, count: int, *, end: bool = False) -> RunLink:
    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(count):
        state.global_step += 1
        link.emit("step_end")
        link.emit("log", {"logs": {}})
    if end:
        link.emit("train_end")
    return link


def train_in_thread(bus: EventBus, count: int) -> threading.Thread:
    thread = threading.Thread(target=emit_steps, args=(bus, count), kwargs={"end": True})
    thread.start()
    return thread


def bounded(main: Callable[[], Any], backend: str) -> None:
    async def within() -> None:
        with anyio.fail_after(30):
            await main()

    anyio.run(within, backend=backend)


@BACKENDS
def test_it_gives_the_events_of_its_kinds_in_order_until_the_last(backend: str) -> None:
    seen: list[tuple[str, int]] = []

    async def main() -> None:
        async with EventBus() as bus:
            stream = bus.events("step_end", until="train_end")
            thread = train_in_thread(bus, 300)
            seen.extend([(event.name, event.step) async for event in stream])
            thread.join(10)
            assert not bus.ledger.rows

    bounded(main, backend)
    assert seen == [*(("step_end", step) for step in range(1, 301)), ("train_end", 300)]


@BACKENDS
def test_without_kinds_it_gives_all_and_a_star_is_all(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()
    seen: list[list[str]] = [[], [], []]

    async def main() -> None:
        streams = [
            bus.events(until=TrainEnd),
            bus.events("*", until=TrainEnd),
            bus.events("*", "log", until=TrainEnd),
        ]
        emit_steps(bus, 2, end=True)
        for stream, names in zip(streams, seen, strict=True):
            async for event in stream:
                names.append(event.name)

    bounded(main, backend)
    assert seen == [["step_end", "log", "step_end", "log", "train_end"]] * 3


@BACKENDS
def test_no_filter_keeps_the_last_event_out(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()
    seen: list[tuple[str, int]] = []

    async def main() -> None:
        stream = bus.events(
            "step_end", every=3, when=lambda event: event.step != 6, until="train_end"
        )
        emit_steps(bus, 10, end=True)
        seen.extend([(event.name, event.step) async for event in stream])

    bounded(main, backend)
    assert seen == [("step_end", 3), ("step_end", 9), ("train_end", 10)]


@BACKENDS
def test_it_begins_with_what_is_emitted_after_the_call(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()
    bus.subscribe("step_end")(Recorder())
    seen: list[int] = []

    async def main() -> None:
        state = TrainerState()
        link = bus.open_run(state)
        for step in range(1, 6):
            state.global_step = step
            if step == 3:
                stream = bus.events(StepEnd, until="train_end")
            link.emit("step_end")
        link.emit("train_end")
        seen.extend([event.step async for event in stream])

    bounded(main, backend)
    assert seen == [3, 4, 5, 5]


@BACKENDS
def test_it_ends_when_the_bus_closes_after_what_was_emitted(
    make_bus: MakeBus, backend: str
) -> None:
    bus = make_bus()
    seen: list[int] = []

    async def main() -> None:
        stream = bus.events("step_end")
        emit_steps(bus, 3)
        await anyio.to_thread.run_sync(bus.close)
        seen.extend([event.step async for event in stream])
        async for _ in stream:
            raise AssertionError("it has ended")
        with pytest.raises(BusClosedError):
            bus.events("step_end")

    bounded(main, backend)
    assert seen == [1, 2, 3]


@BACKENDS
def test_a_reader_that_waits_is_woken_by_the_close(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()
    ended: list[bool] = []

    async def main() -> None:
        async def read() -> None:
            async for _ in bus.events("step_end"):
                pass
            ended.append(True)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(bus.close)

    bounded(main, backend)
    assert ended == [True]


@BACKENDS
def test_leaving_early_ends_the_subscription(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()

    async def main() -> None:
        stream = bus.events("step_end")
        link = emit_steps(bus, 3)
        async for event in stream:
            assert event.step == 1
            break
        await stream.aclose()
        await stream.aclose()
        assert not bus.ledger.rows
        assert not link.emitters["step_end"].active
        async with bus.events("step_end", until="train_end") as other:
            link.emit("train_end")
            assert [event.name async for event in other] == ["train_end"]
        assert not bus.ledger.rows

    bounded(main, backend)


@BACKENDS
def test_a_stream_that_is_let_go_of_ends_by_itself(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()

    async def main() -> None:
        emit_later = bus.open_run(TrainerState())

        async def read_one() -> None:
            async for _ in bus.events("step_end"):
                break

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_one)
            await anyio.wait_all_tasks_blocked()
            emit_later.emit("step_end")
        assert bus.flush(10)
        assert not bus.ledger.rows
        assert not emit_later.emitters["step_end"].active

    bounded(main, backend)


@BACKENDS
def test_a_reader_that_falls_behind_harms_only_itself(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()
    recorder = Recorder()
    bus.subscribe("step_end")(recorder)
    seen: list[int] = []

    async def main() -> None:
        stream = bus.events("step_end", overflow="drop_oldest", mailbox_size=10, name="reader")
        emit_steps(bus, 500)
        assert bus.flush(10)
        assert len(recorder.events) == 500
        row = next(row for row in bus.ledger if row.subscriber == "reader")
        assert (row.pending, row.dropped) == (10, {"overflow": 490})
        async for event in stream:
            seen.append(event.step)
            if event.step == 500:
                break
        row = next(row for row in bus.ledger if row.subscriber == "reader")
        assert row.handled == 10

    bounded(main, backend)
    assert seen == list(range(491, 501))


@BACKENDS
def test_a_reader_on_another_loop_than_the_hosts(backend: str) -> None:
    seen: list[int] = []
    ready = threading.Event()

    async def main() -> None:
        async with EventBus() as bus:

            def read_elsewhere() -> None:
                async def read() -> None:
                    stream = bus.events("step_end", until="train_end")
                    ready.set()
                    seen.extend([event.step async for event in stream])

                anyio.run(read, backend="trio" if backend == "asyncio" else "asyncio")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, read_elsewhere)
                await anyio.to_thread.run_sync(ready.wait)
                await anyio.to_thread.run_sync(lambda: emit_steps(bus, 50, end=True))

    bounded(main, backend)
    assert seen == [*range(1, 51), 50]


@BACKENDS
def test_several_readers_each_get_everything(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()
    seen: list[list[int]] = [[] for _ in range(4)]

    async def main() -> None:
        async def read(stream: Any, into: list[int]) -> None:
            into.extend([event.step async for event in stream])

        async with anyio.create_task_group() as tasks:
            for into in seen:
                tasks.start_soon(read, bus.events("step_end", until="train_end"), into)
            await anyio.to_thread.run_sync(lambda: emit_steps(bus, 100, end=True))

    bounded(main, backend)
    assert seen == [[*range(1, 101), 100]] * 4


@BACKENDS
def test_a_predicate_that_raises_is_counted_and_the_stream_goes_on(
    make_bus: MakeBus, backend: str
) -> None:
    bus = make_bus()
    seen: list[int] = []

    def picky(event: Event) -> bool:
        if event.step == 2:
            raise ValueError("two")
        return True

    async def main() -> None:
        stream = bus.events("step_end", when=picky, until="train_end", name="picky")
        emit_steps(bus, 3, end=True)
        seen.extend([event.step async for event in stream])

    bounded(main, backend)
    assert seen == [1, 3, 3]


@BACKENDS
def test_the_stream_goes_on_over_a_stop_and_start(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()
    seen: list[int] = []

    async def main() -> None:
        stream = bus.events("step_end", until="train_end")
        emit_steps(bus, 2)
        await anyio.to_thread.run_sync(bus.stop)
        await anyio.to_thread.run_sync(bus.start)
        emit_steps(bus, 1, end=True)
        seen.extend([event.step async for event in stream])

    bounded(main, backend)
    assert seen == [1, 2, 1, 1]


@BACKENDS
def test_checkpoints_that_nobody_will_read_are_let_go_of(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()
    leases = [Lease() for _ in range(3)]

    async def main() -> None:
        stream = bus.events("save", name="reader")
        link = bus.open_run(TrainerState())
        for lease in leases:
            link.emit("save", {"path": "x"}, note=lease)
        async for _ in stream:
            break
        assert [lease.holders for lease in leases] == [(), ("reader",), ("reader",)]
        await stream.aclose()
        assert [lease.holders for lease in leases] == [(), (), ()]

    bounded(main, backend)


def test_a_reader_whose_loop_is_gone_is_let_go_of(make_bus: MakeBus) -> None:
    bus = make_bus()
    kept: list[Any] = []

    async def main() -> None:
        stream = bus.events("step_end")
        kept.append(stream)
        emit_steps(bus, 1)
        async for _ in stream:
            break

    anyio.run(main)
    emit_steps(bus, 5)
    assert bus.flush(10)
    emit_steps(bus, 5)
    deadline = time.monotonic() + 10
    while bus.ledger[0].pending and time.monotonic() < deadline:
        assert bus.flush(10)
    assert bus.ledger[0].pending == 0


@BACKENDS
def test_many_readers_that_wait_are_all_woken_when_the_bus_stops(backend: str) -> None:
    bus = EventBus().start()
    ended: list[int] = []

    async def main() -> None:
        async def read(stream: Any) -> None:
            ended.append(len([event async for event in stream]))

        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(read, bus.events("step_end", until="train_end"))
            await anyio.wait_all_tasks_blocked()
            emit_steps(bus, 3, end=True)
            # As a run does at its end: the bus is not closed.
            await anyio.to_thread.run_sync(bus.stop)

    bounded(main, backend)
    assert ended == [4] * 60


@BACKENDS
@pytest.mark.parametrize("until", ["train_end", ("evaluate", "run_failed"), [TrainEnd]])
def test_a_run_that_fails_ends_what_waits_for_the_end_of_training(backend: str, until: Any) -> None:
    seen: list[str] = []

    async def main() -> None:
        async with EventBus() as bus:
            stream = bus.events("step_end", until=until)
            link = await anyio.to_thread.run_sync(emit_steps, bus, 2)
            link.emit("run_failed", {"error": "E", "message": "m", "traceback": "t"})
            seen.extend([event.name async for event in stream])

    bounded(main, backend)
    assert seen == ["step_end", "step_end", "run_failed"]
