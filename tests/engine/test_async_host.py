"""`await run_async(train)`: a thread of its own, a loop that goes on, stops by cancellation."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
import torch

from stepbus import ArgumentError, EventBus, TrainingRun, run_async
from tests.engine.conftest import Loop, Recorder

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
NewLoop = Callable[..., Loop]
ENDLESS = 1_000_000


@pytest.fixture(autouse=True)
def _no_thread_left() -> Any:
    yield
    left = [t.name for t in threading.enumerate() if t.name.startswith("stepbus")]
    assert left == []


def bounded(main: Callable[[], Any], backend: str) -> Any:
    async def within() -> Any:
        with anyio.fail_after(60):
            return await main()

    return anyio.run(within, backend=backend)


@BACKENDS
def test_it_gives_what_the_function_gives_from_a_named_thread_of_its_own(backend: str) -> None:
    colour = contextvars.ContextVar("colour", default="none")

    def train(one: int, *, two: int) -> tuple[Any, ...]:
        return one + two, threading.current_thread().name, colour.get()

    async def main() -> None:
        colour.set("red")
        # A full pool of threads holds it up no more than a busy one.
        gate = threading.Event()
        limiter = anyio.to_thread.current_default_thread_limiter()
        limiter.total_tokens = 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, lambda: gate.wait())
            await anyio.wait_all_tasks_blocked()
            found = await run_async(functools.partial(train, two=2), 1, name="job-7")
            gate.set()
        assert found == (3, "stepbus-training-job-7", "red")
        assert await run_async(lambda: threading.current_thread().daemon)

    bounded(main, backend)


@BACKENDS
def test_the_host_goes_on_while_a_training_runs(new_loop: NewLoop, backend: str) -> None:
    loop = new_loop()
    turns = threading.Semaphore(0)
    # A step ends only when the host has had a turn meanwhile.
    loop.in_step = lambda _: turns.acquire(timeout=30)

    async def main() -> None:
        ended = False

        async def live() -> None:
            while not ended:
                turns.release()
                await anyio.sleep(0.001)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live)
            await run_async(loop.train)
            ended = True

    bounded(main, backend)
    assert loop.steps_done == 12


@BACKENDS
def test_several_trainings_at_once_on_one_bus_or_each_on_its_own(
    new_loop: NewLoop, backend: str
) -> None:
    loops = [new_loop(f"out{n}") for n in range(4)]
    together = threading.Barrier(4)
    for loop in loops:
        loop.in_step = lambda loop: loop.run.state.global_step or together.wait(30)

    async def main() -> None:
        async with EventBus() as bus, anyio.create_task_group() as tasks:
            for loop in loops[:2]:
                tasks.start_soon(run_async, functools.partial(loop.train, bus=bus))
            for loop in loops[2:]:
                tasks.start_soon(run_async, functools.partial(loop.train))

    bounded(main, backend)
    assert [loop.steps_done for loop in loops] == [12] * 4
    assert len({loop.run.run_id for loop in loops}) == 4
    # On a shared bus the callbacks of a run hear of that run alone.
    for loop in loops:
        assert len(loop.recorder.of("step_end")) == 12
        assert {event.run_id for event in loop.recorder.events} == {loop.run.run_id}


@BACKENDS
@pytest.mark.parametrize("on_cancel", ["stop", "save"])
def test_a_cancellation_stops_at_the_step_that_it_met(
    new_loop: NewLoop, backend: str, on_cancel: Any
) -> None:
    loop = new_loop()
    reached, go_on = threading.Event(), threading.Event()

    def third_step(loop: Loop) -> None:
        if loop.run.state.global_step == 2:
            reached.set()
            go_on.wait(30)

    loop.in_step = third_step
    outcome: list[str] = []

    async def main() -> None:
        async def request() -> None:
            train = functools.partial(loop.train, max_steps=ENDLESS)
            try:
                await run_async(train, on_cancel=on_cancel)
            except anyio.get_cancelled_exc_class():
                outcome.append("cancelled")
                raise
            finally:
                outcome.append(f"after step {loop.steps_done}")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(request)
            await anyio.to_thread.run_sync(reached.wait)
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
            go_on.set()

    bounded(main, backend)
    assert outcome == ["cancelled", "after step 3"]
    assert loop.run.summary is not None
    assert (loop.run.summary.status, loop.run.summary.reason) == (
        "stopped",
        "its host was cancelled",
    )
    verdicts = {v.action: (v.outcome, v.acted_at, v.votes[0].voter) for v in loop.verdicts()}
    assert verdicts.pop("stop") == ("acted", 3, "the host")
    assert verdicts == ({"save": ("acted", 3, "the host")} if on_cancel == "save" else {})
    assert loop.saved_steps() == ([3] if on_cancel == "save" else [])


def test_a_veto_does_not_hold_back_a_cancellation_and_a_second_one_is_one(
    new_loop: NewLoop,
) -> None:
    loop = new_loop()
    reached, go_on = threading.Event(), threading.Event()

    def first_step(loop: Loop) -> None:
        loop.run.vote("stop", voter="nobody stops me", against=True)
        reached.set()
        go_on.wait(30)

    loop.in_step = first_step

    async def main() -> None:
        train = functools.partial(loop.train, max_steps=ENDLESS)
        request = asyncio.create_task(run_async(train))
        await asyncio.to_thread(reached.wait)
        request.cancel()
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert loop.steps_done == 1

    bounded(main, "asyncio")


@BACKENDS
def test_a_run_that_opens_after_the_cancellation_ends_after_its_first_step(
    new_loop: NewLoop, backend: str
) -> None:
    loop = new_loop()
    reached, go_on = threading.Event(), threading.Event()

    def train() -> None:
        reached.set()  # It loads its data, say.
        go_on.wait(30)
        loop.train(max_steps=ENDLESS)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_async, train)
            await anyio.to_thread.run_sync(reached.wait)
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
            go_on.set()

    bounded(main, backend)
    assert loop.steps_done == 1


@BACKENDS
def test_one_that_does_not_stop_is_left_behind_and_named(
    new_loop: NewLoop, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    loop = new_loop()
    reached, go_on = threading.Event(), threading.Event()

    def stuck_in_foreign_code(_: Loop) -> None:
        reached.set()
        go_on.wait(60)

    loop.in_step = stuck_in_foreign_code
    threads: list[threading.Thread] = []

    def train() -> None:
        threads.append(threading.current_thread())
        loop.train(max_steps=ENDLESS)

    async def main() -> None:
        async with EventBus() as bus:
            loop.train = functools.partial(loop.train, bus=bus)  # type: ignore[method-assign]
            async with anyio.create_task_group() as tasks:
                call = functools.partial(run_async, train, stop_timeout=0.2, name="stuck")
                tasks.start_soon(call)
                await anyio.to_thread.run_sync(reached.wait)
                tasks.cancel_scope.cancel()
            run = bus.ledger.run
            assert run is not None
            assert run.left_behind == "stepbus-training-stuck"
            assert "went on before stepbus-training-stuck had stopped" in str(bus.ledger)
            assert threads[0].is_alive()
            go_on.set()
            await anyio.to_thread.run_sync(threads[0].join, 30)

    bounded(main, backend)
    assert not threads[0].is_alive()
    assert loop.steps_done == 1
    said = caplog.text
    assert "stepbus-training-stuck" in said
    assert "has not stopped for 0.2 s" in said
    assert "stuck_in_foreign_code" in said


@BACKENDS
def test_one_that_is_cancelled_already_does_not_begin(backend: str) -> None:
    called: list[int] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await run_async(called.append, 1)

    bounded(main, backend)
    assert called == []


@BACKENDS
@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt()])
def test_what_the_function_raises_comes_out_with_its_traceback(
    backend: str, error: BaseException
) -> None:
    def inner() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(type(error)) as caught:
            await run_async(inner)
        assert caught.value is error
        assert "inner" in "".join(traceback.format_exception(caught.value))

    bounded(main, backend)


@BACKENDS
def test_a_failure_while_it_stops_is_said_and_the_cancellation_goes_on(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def train() -> None:
        reached.set()
        go_on.wait(30)
        raise OSError("the disk is full")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_async, train)
            await anyio.to_thread.run_sync(reached.wait)
            tasks.cancel_scope.cancel()
            go_on.set()

    bounded(main, backend)
    assert "failed while it was stopping" in caplog.text


@BACKENDS
def test_ctrl_c_in_the_host_stops_the_training_and_then_the_host(
    new_loop: NewLoop, backend: str
) -> None:
    loop = new_loop()
    interrupted: list[int] = []

    def interrupt(loop: Loop) -> None:
        if loop.run.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    loop.in_step = interrupt

    async def main() -> None:
        try:
            await run_async(functools.partial(loop.train, max_steps=ENDLESS), on_cancel="save")
        finally:
            interrupted.append(loop.steps_done)

    with pytest.raises(KeyboardInterrupt):
        anyio.run(main, backend=backend)
    assert interrupted
    assert loop.run.summary is not None
    assert loop.run.summary.status == "stopped"
    assert loop.saved_steps() == [interrupted[0]]


def modes() -> dict[str, Any]:
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "autocast dtype": torch.get_autocast_dtype("cpu"),
        "autocast cache": torch.is_autocast_cache_enabled(),
        "device": torch.empty(1).device,
        "dtype": torch.empty(1).dtype,
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "backward threads": torch._C._is_multithreading_enabled(),
    }


@BACKENDS
@pytest.mark.parametrize("case", range(6))
def test_the_modes_of_torch_hold_in_the_thread(backend: str, case: int) -> None:
    contexts: list[Callable[[], Any]] = [
        lambda: torch.set_grad_enabled(True),
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.float16, cache_enabled=False),
        lambda: torch.device("meta"),
        lambda: torch.autograd.set_multithreading_enabled(False),
    ]
    former = torch.get_default_dtype(), torch.get_num_threads()

    async def main() -> None:
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(1)
        with contexts[case]():
            here = modes()
            assert await run_async(modes) == here
            assert modes() == here

    before = modes()
    try:
        bounded(main, backend)
    finally:
        torch.set_default_dtype(former[0])
        torch.set_num_threads(former[1])
    assert modes() == before


@BACKENDS
def test_a_default_device_and_hooks_on_saved_tensors_hold_in_the_thread(backend: str) -> None:
    packed: list[str] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        packed.append(threading.current_thread().name)
        return tensor

    def square() -> str:
        x = torch.ones(2, requires_grad=True, device="cpu")
        (x * x).sum().backward()  # type: ignore[no-untyped-call]
        return str(torch.empty(1).device)

    async def main() -> None:
        torch.set_default_device("meta")
        try:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                assert await run_async(square, name="hooked") == "meta"
        finally:
            torch.set_default_device(None)
        assert await run_async(lambda: str(torch.empty(1).device)) == "cpu"

    bounded(main, backend)
    assert packed
    assert set(packed) == {"stepbus-training-hooked"}


def test_nothing_of_the_process_is_changed(new_loop: NewLoop) -> None:
    loop = new_loop()

    def of_the_process() -> tuple[Any, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        return (
            handlers,
            dict(os.environ),
            list(warnings.filters),
            (sys.excepthook, threading.excepthook, sys.unraisablehook),
            (torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()),
            (gc.isenabled(), gc.get_freeze_count()),
        )

    gc.unfreeze()
    seen: list[tuple[Any, ...]] = []
    loop.in_step = lambda _: seen.append(of_the_process())
    before: list[tuple[Any, ...]] = []

    async def main() -> None:
        before.append(of_the_process())
        await run_async(functools.partial(loop.train, save_strategy="steps", save_steps=4))
        assert of_the_process() == before[0]

    anyio.run(main)
    assert len(seen) == 12
    assert all(each == before[0] for each in seen)


@BACKENDS
@pytest.mark.parametrize(
    ("options", "named"),
    [({"on_cancel": "kill"}, "on_cancel='kill'"), ({"stop_timeout": 0}, "stop_timeout=0")],
)
def test_bad_options_are_refused_before_it_begins(
    backend: str, options: dict[str, Any], named: str
) -> None:
    async def main() -> None:
        with pytest.raises(ArgumentError, match=named):
            await run_async(pytest.fail, "it was called", **options)

    bounded(main, backend)


@BACKENDS
def test_an_async_function_is_refused(backend: str) -> None:
    async def train() -> None:
        raise AssertionError("it was called")

    async def main() -> None:
        with pytest.raises(ArgumentError, match=r"run_async\(train\): it is async"):
            await run_async(train)  # type: ignore[unused-coroutine]

    bounded(main, backend)


def test_a_run_has_the_name_that_it_was_given(new_loop: NewLoop) -> None:
    loop = new_loop()
    args = loop.arguments(save_strategy="steps", save_steps=6)
    resumed: Any
    for resumed in (None, True):
        args.resume_from_checkpoint = resumed
        name = "another" if resumed else "job-1"
        with TrainingRun(args, model=loop.model, optimizer=loop.optimizer, run_id=name) as loop.run:
            loop.steps()
        assert loop.run.identity == ("job-1", 2 if resumed else 1)


def test_a_crash_of_one_leaves_the_others_alone(new_loop: NewLoop) -> None:
    loops = [new_loop(f"out{n}") for n in range(3)]

    def crash(loop: Loop) -> None:
        if loop.run.state.global_step == 2:
            raise RuntimeError("boom")

    loops[1].in_step = crash

    async def main() -> None:
        async with EventBus() as bus:
            recorder = bus.subscribe(Recorder())
            results = await asyncio.gather(
                *(run_async(functools.partial(loop.train, bus=bus)) for loop in loops),
                return_exceptions=True,
            )
        assert [type(result) for result in results] == [Loop, RuntimeError, Loop]
        failed = recorder.of("run_failed")
        assert [event.run_id for event in failed] == [loops[1].run.run_id]
        assert len(recorder.of("train_end")) == 2

    bounded(main, "asyncio")
    assert [loop.steps_done for loop in loops] == [12, 2, 12]
