"""Runs that fail, are left, or are used wrongly: who hears of it, and what is left behind."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from torch.utils.data import DataLoader

from stepbus import EventBus, StepbusError, Subscriber, TrainerCallback, TrainingRun

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


pytestmark = pytest.mark.slow


def threads_of_stepbus() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("stepbus")]


def open_files() -> set[str]:
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return {str(link.readlink()) for link in links if link.is_symlink()}


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    gc.unfreeze()
    gc.collect()
    files, processes = open_files(), children()
    yield
    assert threads_of_stepbus() == []
    assert gc.get_freeze_count() == 0
    assert {
        name for name in open_files() - files if not name.startswith(("pipe:", "/dev/shm/"))
    } == set()
    assert children() == processes


class Hears(TrainerCallback):
    def __init__(self) -> None:
        self.error: BaseException | None = None

    def on_run_failed(self, *args: Any, **keywords: Any) -> None:
        self.error = keywords["error"]


def fail_at(step: int, error: BaseException) -> Callable[[Loop], None]:
    def fail(loop: Loop) -> None:
        if loop.steps_done == step:
            raise error

    return fail


@pytest.mark.parametrize("error", [ValueError("no such thing"), KeyboardInterrupt(), SystemExit(3)])
def test_an_exception_in_the_loop_reaches_subscribers_and_the_caller(
    loop: Loop, error: BaseException
) -> None:
    hears = Hears()
    loop.in_step = fail_at(4, error)
    with pytest.raises(type(error)) as caught:
        loop.train(callbacks=[hears])
    assert caught.value is error
    (failed,) = loop.recorder.of("run_failed")
    assert (failed.error, failed.message, failed.step) == (type(error).__name__, str(error), 4)
    assert "in fail" in failed.traceback
    assert hears.error is error
    assert not loop.recorder.of("train_end")
    assert loop.recorder.names()[-1] == "run_failed"
    assert loop.run.summary is not None
    assert (loop.run.summary.status, loop.run.summary.global_step) == ("failed", 4)


def test_an_exception_with_workers_of_the_data_loader_leaves_none(loop: Loop) -> None:
    loop.loader = DataLoader(loop.samples, 4, num_workers=2)  # type: ignore[arg-type]
    loop.in_step = fail_at(2, ValueError())
    with pytest.raises(ValueError, match=r"^$"):
        loop.train()


def test_an_exception_in_evaluate(loop: Loop) -> None:
    def evaluate() -> dict[str, float]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.train(evaluate=evaluate, eval_strategy="steps", eval_steps=3)
    assert loop.recorder.of("run_failed")[0].step == 3


def test_an_exception_after_the_loop_does_not_undo_the_end_of_the_training(loop: Loop) -> None:
    def train_then_fail() -> None:
        with TrainingRun(loop.arguments(), model=loop.model, callbacks=[loop.recorder]) as loop.run:
            loop.steps()
            raise ValueError("too late")

    with pytest.raises(ValueError, match="too late"):
        train_then_fail()
    assert loop.recorder.names()[-1] == "train_end"
    assert loop.run.summary is not None
    assert loop.run.summary.status == "finished"


def test_leaving_the_loop_by_break_ends_the_run_as_stopped(loop: Loop) -> None:
    with TrainingRun(
        loop.arguments(save_strategy="epoch"), model=loop.model, callbacks=[loop.recorder]
    ) as run:
        for _ in run.steps(DataLoader(loop.samples, 4, num_workers=1)):  # type: ignore[arg-type]
            if run.state.global_step == 3:
                break
            run.end_step()
        run.vote("save", reason="before we go")
    (end,) = loop.recorder.of("train_end")
    assert (end.status, end.step, end.stopped_by) == ("stopped", 3, "the training loop")
    assert loop.saved_steps() == [3]


def test_a_run_without_a_loop_ends_quietly(loop: Loop) -> None:
    with TrainingRun(loop.arguments(), model=loop.model, callbacks=[loop.recorder]) as run:
        run.vote("stop")
    assert loop.recorder.names() == ["init_end", "verdict"]
    assert loop.verdicts()[0].outcome == "late"
    assert run.summary is None
    assert not run.vote("save")


def never(run: TrainingRun) -> bool:
    return False


def twice(run: TrainingRun) -> bool:
    run.end_step()
    run.end_step()
    return True


def only_the_last_of_two(run: TrainingRun) -> bool:
    run.end_step()
    return True


def another_loop(run: TrainingRun) -> bool:
    run.steps([1])
    return True


@pytest.mark.parametrize(
    ("misuse", "accumulation", "message"),
    [
        (never, 1, r"end_step\(\) was not called after the last micro-batch of step 1"),
        (twice, 1, r"end_step\(\) was called twice for one step"),
        (only_the_last_of_two, 2, r"after micro-batch 1 of 2: skip the optimizer"),
        (another_loop, 1, r"run.steps\(\) was called before"),
    ],
)
def test_misuse_of_the_loop_is_one_clear_error(
    loop: Loop, misuse: Callable[[TrainingRun], bool], accumulation: int, message: str
) -> None:
    arguments = loop.arguments(gradient_accumulation_steps=accumulation)

    def train() -> None:
        with TrainingRun(arguments, model=loop.model, callbacks=[loop.recorder]) as run:
            for _ in run.steps(loop.loader):
                misuse(run)

    with pytest.raises(StepbusError, match=message):
        train()
    assert loop.recorder.names()[-1] == "run_failed"


def test_a_run_is_used_inside_of_its_block_and_once(loop: Loop) -> None:
    run = TrainingRun(loop.arguments(), model=loop.model)
    for use in (lambda: run.steps([1]), run.end_step, lambda: run.run_id, lambda: run.control):
        with pytest.raises(StepbusError, match="inside of its block"):
            use()
    assert run.summary is None
    with run, pytest.raises(StepbusError, match="before the with block"):
        run.add_callback(Hears())
    with pytest.raises(StepbusError, match="has been entered before"):
        run.__enter__()


def test_several_runs_in_one_process_and_on_one_bus(new_loop: Callable[..., Loop]) -> None:
    ids = set()
    with EventBus() as bus:
        for number in range(3):
            loop = new_loop(f"run {number}").train(bus=bus)
            ids.add(loop.run.run_id)
            assert loop.recorder.names()[-1] == "train_end"
            assert [row.subscriber for row in bus.ledger] == []
        failing = new_loop("failing")
        failing.in_step = fail_at(1, ValueError())
        with pytest.raises(ValueError, match=r"^$"):
            failing.train(bus=bus)
        assert new_loop("last").train(bus=bus).steps_done == 12
    assert len(ids) == 3
    stopped = EventBus()
    assert new_loop("first").train(bus=stopped).steps_done == 12
    assert not stopped.running
    assert new_loop("second").train(bus=stopped).steps_done == 12


def test_a_subscriber_that_fails_or_raises_does_not_fail_the_run(loop: Loop) -> None:
    class Fails(Subscriber):
        def on_step_end(self, event: Any) -> None:
            raise ValueError(f"at step {event.step}")

    class FailsInTheGate(TrainerCallback):
        def on_step_end(self, *args: Any, **keywords: Any) -> None:
            raise ValueError("in the gate")

    loop.train(callbacks=[Fails, FailsInTheGate])
    assert loop.steps_done == 12
    failed = {event.subscriber for event in loop.recorder.of("subscriber_failed")}
    assert failed == {"Fails", "FailsInTheGate"}
    assert loop.run.summary is not None
    rows = {row.subscriber: row for row in loop.run.summary.ledger}
    assert rows["Fails"].quarantined
    assert rows["FailsInTheGate"].quarantined


def test_a_critical_subscriber_that_fails_stops_the_run_beyond_any_veto(loop: Loop) -> None:
    class Guard(Subscriber):
        critical = True

        def on_step_end(self, event: Any) -> None:
            raise RuntimeError("the disk is on fire")

    loop.in_step = lambda loop: (
        loop.run.bus.flush(10) and loop.run.vote("stop", voter="hope", against=True)
    )
    loop.train(callbacks=[Guard])
    (end,) = loop.recorder.of("train_end")
    assert (end.status, end.stopped_by) == ("stopped", "Guard")
    assert end.step <= 3
    assert "the disk is on fire" in end.reason
    assert "Traceback" in end.reason


def test_a_required_subscriber_that_cannot_be_set_up_ends_it_before_the_first_step(
    new_loop: Callable[..., Loop],
) -> None:
    class Broken(Subscriber):
        def open(self) -> None:
            raise OSError("no server")

        def on_log(self, event: Any) -> None: ...

    for bus in (None, EventBus(), EventBus().start()):
        loop = new_loop()
        with pytest.raises(StepbusError, match="Broken was asked for and could not be set up"):
            loop.train(bus=bus, callbacks=[Broken])
        assert loop.losses == []
        assert not (loop.output_dir / "run.json").exists()
        if bus is not None:
            assert not bus.ledger.rows
            bus.close()


def test_a_hanging_subscriber_does_not_keep_the_run_from_ending_on_time(loop: Loop) -> None:
    release = threading.Event()
    entered = threading.Event()

    class Hangs(Subscriber):
        def on_step_end(self, event: Any) -> None:
            entered.set()
            release.wait(60)

    try:
        loop.in_step = lambda loop: loop.steps_done == 1 and entered.wait(10)
        loop.train(callbacks=[Hangs], drain_timeout_s=0.5, save_strategy="epoch")
        assert loop.recorder.names()[-1] == "train_end"
        summary = loop.run.summary
        assert summary is not None
        (row,) = [row for row in summary.ledger if row.subscriber == "Hangs"]
        assert row.stuck
        assert summary.undelivered == 11
        # Its own closing is one wait of 0.5 s, shared, with a second for what is left of it.
        assert summary.runtime_s < 3
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "stepbus-Hangs":
                thread.join(10)
