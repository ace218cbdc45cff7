"""`bus.events(since=...)`: what was before the reader came, then what follows, each event once."""

from __future__ import annotations

import gc
import random
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepbus.bus import EventBus, RunLink
from stepbus.bus.replay import KEPT_KINDS, Replay
from stepbus.bus.testing import Recorder
from stepbus.schemas import ArgumentError, Event, EventsGoneError, TrainerState

MakeBus = Callable[..., EventBus]
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Pause(Event):
    """One of a user's own."""

    name: Literal["pause"] = "pause"
    why: str = ""


def bounded(main: Callable[[], Any], backend: str = "asyncio") -> Any:
    async def within() -> Any:
        with anyio.fail_after(20):
            return await main()

    return anyio.run(within, backend=backend)


def emit(link: RunLink, steps: range) -> None:
    for step in steps:
        link.state.global_step = step
        link.emit("step_end")
        link.emit("log", {"logs": {"loss": 1 / step}})


async def read_all(stream: Any) -> list[tuple[str, int, int]]:
    return [(event.name, event.step, event.seq) async for event in stream]


@BACKENDS
def test_it_reads_what_was_before_and_what_follows(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus(replay=True)

    async def main() -> None:
        link = bus.open_run(TrainerState(), run_id="a")
        emit(link, range(1, 4))
        bus.publish(Pause(why="lunch"))
        assert await anyio.to_thread.run_sync(bus.flush, 10)
        stream = bus.events(since=0, run_id="a", until="train_end")
        emit(link, range(4, 6))
        link.emit("train_end")
        seen = await read_all(stream)
        assert [(name, step) for name, step, _ in seen] == [
            *(("log", step) for step in (1, 2, 3)),
            ("pause", 3),
            *(("log", step) for step in (4, 5)),
            ("train_end", 5),
        ]
        # Nobody else listened, so that kept events alone took a number.
        assert [seq for *_, seq in seen] == list(range(7))
        again = bus.events("log", since=4, run_id="a", until="train_end")
        assert [seq for *_, seq in await read_all(again)] == [4, 5, 6]
        # After its last event a run has no more.
        assert await read_all(bus.events(since=7, run_id="a", until="train_end")) == []

    bounded(main, backend)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), backend=st.sampled_from(["asyncio", "trio"]))
def test_whenever_they_come_readers_see_each_kept_event_once_in_order(
    data: st.DataObject, backend: str
) -> None:
    plans = st.lists(st.sampled_from(["log", "step_end", "pause", "rest"]), max_size=25)
    runs = data.draw(st.lists(plans, min_size=1, max_size=3))
    joins = data.draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=6))
    listens = data.draw(st.booleans())
    expected: dict[str, list[tuple[int, str]]] = {}
    seen: list[tuple[str, int, list[tuple[int, str]]]] = []

    async def main() -> None:
        async with EventBus(replay=True) as bus, anyio.create_task_group() as tasks:
            recorder = Recorder()
            bus.subscribe("*")(recorder.on_event)
            if listens:
                bus.subscribe("step_end")(Recorder().on_event)
            links = [bus.open_run(TrainerState(), run_id=f"r{n}") for n in range(len(runs))]
            left = [(n, what) for n, plan in enumerate(runs) for what in plan]
            random.Random(len(left)).shuffle(left)

            async def read(run_id: str, since: int) -> None:
                stream = bus.events(since=since, run_id=run_id, until="train_end")
                found = [(event.seq, event.name) async for event in stream]
                seen.append((run_id, since, found))

            for moment, (n, what) in enumerate(left):
                for at, since in joins:
                    if at == moment:
                        tasks.start_soon(read, f"r{n}", since)
                if what == "rest":
                    await anyio.sleep(0.002)
                elif what == "pause":
                    bus.publish(Pause(run_id=f"r{n}"))
                else:
                    links[n].emit(what, {"logs": {}} if what == "log" else {})
            for link in links:
                link.emit("train_end")
            for _, since in joins:
                tasks.start_soon(read, "r0", since)
            assert await anyio.to_thread.run_sync(bus.flush, 30)
            for event in recorder.events:
                if event.name != "step_end":
                    expected.setdefault(event.run_id, []).append((event.seq, event.name))

    bounded(main, backend)
    for run_id, since, found in seen:
        ended = expected[run_id][-1][0] < since
        assert found == ([] if ended else [e for e in expected[run_id] if e[0] >= since])


@BACKENDS
def test_a_reader_that_is_cancelled_while_it_waits_loses_nothing(
    make_bus: MakeBus, backend: str
) -> None:
    bus = make_bus(replay=True)

    async def main() -> None:
        link = bus.open_run(TrainerState(), run_id="a")
        stream = bus.events("log", since=0, run_id="a")
        seen: list[int] = []
        for step in range(1, 300, 30):
            with anyio.CancelScope() as scope, anyio.move_on_after(0.001):
                seen.append((await anext(stream)).step)
                scope.cancel()
            emit(link, range(step, step + 30))
        while len(seen) < 300:
            seen.append((await anext(stream)).step)
        assert seen == list(range(1, 301))
        await stream.aclose()

    bounded(main, backend)


def test_attempts_follow_each_other_and_each_can_be_begun_at(make_bus: MakeBus) -> None:
    bus = make_bus(replay=True)
    for attempt in (1, 2):
        link = bus.open_run(TrainerState(), run_id="a", attempt=attempt)
        emit(link, range(1, 4))
        if attempt == 2:
            link.emit("train_end")
        assert bus.flush(10)
        bus.close_run(link)

    async def main() -> None:
        async def keys(since: Any) -> list[tuple[int, int]]:
            stream = bus.events(since=since, run_id="a", until="train_end")
            return [(event.attempt, event.seq) async for event in stream]

        whole = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3)]
        assert await keys(0) == whole
        assert await keys(2) == await keys((1, 2)) == whole[2:]
        assert await keys((2, 1)) == whole[4:]
        assert await keys((2, 4)) == []

    bounded(main)


def test_without_a_run_it_begins_with_all_that_is_kept(make_bus: MakeBus) -> None:
    bus = make_bus(replay=True)
    for run_id in ("a", "b"):
        emit(bus.open_run(TrainerState(), run_id=run_id), range(1, 3))
    assert bus.flush(10)

    async def main() -> None:
        stream = bus.events("log", since=0)
        seen = [(await anext(stream)).run_id for _ in range(4)]
        assert seen == ["a", "a", "b", "b"]
        await stream.aclose()

    bounded(main)


def test_what_is_gone_is_an_error_that_says_where_it_can_begin(make_bus: MakeBus) -> None:
    bus = make_bus(replay=256)
    link = bus.open_run(TrainerState(), run_id="a")
    emit(link, range(1, 1001))
    link.emit("train_end")
    assert bus.flush(30)

    async def main() -> None:
        with pytest.raises(
            EventsGoneError, match="no longer kept: this bus keeps the last 256"
        ) as e:
            bus.events(since=0, run_id="a")
        first = e.value.first
        assert first is not None
        assert 1000 - 256 - 64 <= first[1] <= 1001 - 256
        seen = await read_all(bus.events(since=first, run_id="a", until="train_end"))
        assert [seq for *_, seq in seen] == list(range(first[1], 1001))

    bounded(main)


def test_what_is_kept_takes_no_more_memory_the_longer_it_goes_on(make_bus: MakeBus) -> None:
    bus = make_bus(replay=1_000)
    replay = bus._replay
    assert isinstance(replay, Replay)
    sizes = []
    for round_ in range(4):
        for number in range(5):
            link = bus.open_run(TrainerState(), run_id=f"r{round_}-{number}")
            emit(link, range(1, 1_001))
            bus.close_run(link)
        assert bus.flush(60)
        sizes.append((len(replay._chunks), sum(len(chunk.runs) for chunk in replay._chunks)))
    assert max(sizes)[0] <= 1_000 // 64 + 2
    assert max(size[1] for size in sizes) <= 2 * max(sizes)[0]


def test_a_slow_reader_keeps_its_place_though_the_bus_forgets(make_bus: MakeBus) -> None:
    bus = make_bus(replay=64)
    link = bus.open_run(TrainerState(), run_id="a")

    async def main() -> None:
        stream = bus.events("log", since=0, run_id="a", until="train_end")
        emit(link, range(1, 5001))
        link.emit("train_end")
        assert await anyio.to_thread.run_sync(bus.flush, 30)
        assert [step for _, step, _ in await read_all(stream)] == [*range(1, 5001), 5000]

    bounded(main)


def test_it_survives_a_stop_and_start_and_ends_with_the_close(make_bus: MakeBus) -> None:
    bus = make_bus(replay=True)

    async def main() -> None:
        emit(bus.open_run(TrainerState(), run_id="a"), range(1, 3))
        await anyio.to_thread.run_sync(bus.stop)
        stream = bus.events("log", since=0)
        assert [(await anext(stream)).step for _ in range(2)] == [1, 2]
        await anyio.to_thread.run_sync(bus.start)
        emit(bus.open_run(TrainerState(), run_id="b"), range(3, 5))
        await anyio.to_thread.run_sync(bus.close)
        assert [step for _, step, _ in await read_all(stream)] == [3, 4]

    before = set(Path(tempfile.gettempdir()).glob("stepbus-log-*"))
    bounded(main)
    assert set(Path(tempfile.gettempdir()).glob("stepbus-log-*")) <= before


def test_a_reader_that_waits_is_woken_by_the_close(make_bus: MakeBus) -> None:
    bus = make_bus(replay=True)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_all, bus.events(since=0))
            await anyio.wait_all_tasks_blocked()
            await anyio.to_thread.run_sync(bus.close)

    bounded(main)


def test_readers_that_are_let_go_of_hold_nothing(make_bus: MakeBus) -> None:
    bus = make_bus(replay=True)

    async def main() -> None:
        emit(bus.open_run(TrainerState(), run_id="a"), range(1, 3))
        assert await anyio.to_thread.run_sync(bus.flush, 10)
        async for _ in bus.events(since=0):
            break
        async with bus.events(since=0) as stream:
            await anext(stream)

    bounded(main)
    gc.collect()
    assert bus.flush(10)
    replay = bus._replay
    assert isinstance(replay, Replay)
    assert replay._log.num_cursors == 1


@BACKENDS
def test_readers_on_several_loops_each_get_everything(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus(replay=True)
    seen: list[list[int]] = []
    lock = threading.Lock()

    def read_elsewhere() -> None:
        async def main() -> None:
            found = await read_all(bus.events("log", since=0, until="train_end"))
            with lock:
                seen.append([step for _, step, _ in found])

        bounded(main, backend)

    threads = [threading.Thread(target=read_elsewhere) for _ in range(3)]
    link = bus.open_run(TrainerState(), run_id="a")
    for thread in threads:
        thread.start()
    emit(link, range(1, 301))
    link.emit("train_end")
    for thread in threads:
        thread.join(60)
    assert seen == [[*range(1, 301), 300]] * 3


def test_a_predicate_chooses_and_one_that_raises_passes_over(make_bus: MakeBus) -> None:
    bus = make_bus(replay=True)
    link = bus.open_run(TrainerState(), run_id="a")
    emit(link, range(1, 7))
    link.emit("train_end")

    def even(event: Event) -> bool:
        if event.step == 4:
            raise ValueError("four")
        return event.step % 2 == 0

    async def main() -> None:
        seen = await read_all(bus.events("log", since=0, when=even, until="train_end"))
        assert [step for _, step, _ in seen] == [2, 6, 6]

    bounded(main)


@pytest.mark.parametrize(
    ("kinds", "options", "said"),
    [
        ((), {"since": -1}, "since=-1"),
        ((), {"since": True}, "since=True"),
        ((), {"since": (1, 2, 3)}, r"since=\(1, 2, 3\)"),
        ((), {"since": 3}, "give its run_id="),
        (("step_end",), {"since": 0}, "StepEnd events are not kept"),
        (("log",), {"since": 0, "until": "epoch_end"}, "EpochEnd events are not kept"),
        (("log",), {"since": 0, "every": 2}, "every= has no meaning"),
        (("log",), {"since": 0, "overflow": "latest"}, "overflow= has no meaning"),
        (("log",), {"since": 0, "run_id": ["a", "b"]}, "several"),
    ],
)
def test_what_it_cannot_do_is_refused(
    make_bus: MakeBus, kinds: Any, options: Any, said: str
) -> None:
    with pytest.raises(ArgumentError, match=said):
        make_bus(replay=True).events(*kinds, **options)


def test_a_bus_that_keeps_nothing_says_so(bus: EventBus) -> None:
    with pytest.raises(ArgumentError, match=r"EventBus\(replay=True\)"):
        bus.events(since=0)
    with pytest.raises(ArgumentError, match="replay=0"):
        EventBus(replay=0.0)  # type: ignore[arg-type]


def test_what_is_kept_does_not_happen_several_times_a_step() -> None:
    kept = {str(kind.model_fields["name"].default) for kind in KEPT_KINDS}
    frequent = {name for name in Event.known_kinds if name.endswith(("_step", "step_end"))}
    assert not kept & (frequent | {"step_begin", "substep_end", "histogram"})
    assert {"train_begin", "train_end", "run_failed", "log", "save", "verdict"} <= kept


def test_an_event_for_a_run_that_has_ended_takes_its_next_number(make_bus: MakeBus) -> None:
    bus = make_bus(replay=True)
    link = bus.open_run(TrainerState(), run_id="a", attempt=2)
    emit(link, range(1, 3))
    bus.close_run(link)
    bus.open_run(TrainerState(), run_id="b")
    bus.publish(Pause(run_id="a"))
    assert bus.flush(10)

    async def main() -> None:
        stream = bus.events(since=0, run_id="a", until=Pause)
        seen = [(event.name, event.attempt, event.seq) async for event in stream]
        assert seen == [("log", 2, 0), ("log", 2, 1), ("pause", 2, 2)]

    bounded(main)
