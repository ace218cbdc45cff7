"""Hosts that block their loop and readers that never read: the training and all others go on."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from stepbus import EventBus, run_async
from tests.engine.conftest import Loop, Recorder

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
STEPS = 3_000
READERS = 100


def bounded(main: Callable[[], Any], backend: str) -> Any:
    async def within() -> Any:
        with anyio.fail_after(100):
            return await main()

    return anyio.run(within, backend=backend)


def last_step(loop: Loop, reached: threading.Event, steps: int = 12) -> None:
    if loop.run.state.global_step == steps - 1:
        reached.set()


@BACKENDS
def test_a_handler_that_blocks_the_loop_delays_the_handlers_on_it_alone(
    new_loop: Callable[..., Loop], backend: str
) -> None:
    loop = new_loop()
    reached, beside, elsewhere = threading.Event(), Recorder(), Recorder()
    loop.in_step = lambda loop: last_step(loop, reached)
    handled: list[int] = []
    got: list[int] = []

    async def main() -> None:
        async with EventBus() as bus:

            @bus.subscribe("step_end")
            async def blocks(event: Any) -> None:
                if event.step == 1:
                    # Only a training that does not wait for this loop gets to its last step.
                    assert reached.wait(60)
                    got.append(len(handled))
                handled.append(event.step)

            bus.subscribe("step_end")(beside.on_event)
            bus.subscribe("step_end", delivery="gate")(elsewhere.on_event)
            await run_async(functools.partial(loop.train, bus=bus))

    bounded(main, backend)
    assert got == [0]
    assert handled == list(range(1, 13))
    assert [event.step for event in beside.events] == handled
    assert [event.step for event in elsewhere.events] == handled


@BACKENDS
def test_a_host_that_blocks_its_loop_for_300_ms_at_a_time_holds_up_no_step(
    new_loop: Callable[..., Loop], backend: str
) -> None:
    loop = new_loop()
    begun, reached, beside = threading.Event(), threading.Event(), Recorder()

    def step(loop: Loop) -> None:
        begun.set()
        last_step(loop, reached, STEPS)

    loop.in_step = step
    handled: list[int] = []
    seen: list[tuple[int, int]] = []

    async def main() -> None:
        async with EventBus() as bus, anyio.create_task_group() as tasks:

            @bus.subscribe("step_end")
            async def on_the_loop(event: Any) -> None:
                handled.append(event.step)

            bus.subscribe("step_end")(beside.on_event)
            tasks.start_soon(run_async, functools.partial(loop.train, bus=bus, max_steps=STEPS))
            await anyio.to_thread.run_sync(lambda: begun.wait())
            turns = 0
            while not reached.is_set():
                before = len(handled)
                time.sleep(0.3)  # noqa: ASYNC251 - what is to be survived
                # Nothing was handled here meanwhile; what came is, in order, afterwards.
                assert len(handled) == before
                turns += 1
                await anyio.lowlevel.checkpoint()
            seen.append((turns, len(handled)))

    bounded(main, backend)
    (turns, at_the_end) = seen[0]
    assert turns >= 1
    assert at_the_end < STEPS, "the host kept up, so that nothing was shown"
    assert handled == list(range(1, STEPS + 1))
    assert len(beside.events) == STEPS
    assert loop.steps_done == STEPS


@BACKENDS
@pytest.mark.slow
def test_a_hundred_readers_of_which_ten_are_stuck(
    new_loop: Callable[..., Loop], backend: str
) -> None:
    loop = new_loop()
    counts: list[int] = []
    facts: dict[str, Any] = {}

    async def main() -> None:
        async with EventBus() as bus, anyio.create_task_group() as tasks:
            kinds = ("step_end", "log")

            all_read = anyio.Event()

            async def read(stream: Any) -> None:
                counts.append(sum([1 async for event in stream if event.name == "step_end"]))
                if len(counts) == READERS - 10:
                    all_read.set()

            async def stick(stream: Any) -> None:
                async for _ in stream:
                    await anyio.sleep_forever()

            for _ in range(READERS - 10):
                tasks.start_soon(read, bus.events(*kinds, until="train_end"))
            stuck = [
                bus.events(*kinds, until="train_end", mailbox_size=100, name="stuck")
                for _ in range(10)
            ]
            for stream in stuck[:5]:
                tasks.start_soon(stick, stream)  # The others never read at all.
            await run_async(functools.partial(loop.train, bus=bus, max_steps=STEPS))
            await all_read.wait()
            rows = [row for row in bus.ledger if row.subscriber == "stuck"]
            facts["pending"] = {row.pending + row.handled for row in rows}
            facts["held"] = max(row.bytes_held for row in rows)
            facts["spilled"] = min(row.spilled for row in rows)
            tasks.cancel_scope.cancel()

    bounded(main, backend)
    assert counts == [STEPS] * (READERS - 10)
    assert loop.steps_done == STEPS
    # All is kept for those who are stuck, but for a hundred events each on disk.
    assert facts["pending"] == {STEPS + 2}
    assert facts["spilled"] >= STEPS - 200
    assert facts["held"] < 1_000_000
