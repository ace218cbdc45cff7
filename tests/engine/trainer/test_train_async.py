"""`await trainer.train_async()`: equal to `train()`, stopped by a cancellation, one at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import torch
from torch import Tensor, nn

from stepbus import ArgumentError, StepbusError, Trainer
from stepbus.engine.checkpoint import list_checkpoints
from tests.engine.trainer.conftest import Watcher, samples, weights
from tests.engine.trainer.left_behind import AtStep

Make = Callable[..., Trainer]
ENDLESS = 1_000_000
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture(autouse=True)
def _no_thread_left() -> Any:
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("stepbus")] == []


def bounded(main: Callable[[], Any], backend: str) -> Any:
    async def within() -> Any:
        with anyio.fail_after(60):
            return await main()

    return anyio.run(within, backend=backend)


@BACKENDS
def test_it_trains_as_train_does(make_trainer: Make, backend: str) -> None:
    beside = make_trainer(folder="plain", logging_strategy="steps", logging_steps=3)
    expected = beside.train()
    trainer = make_trainer(logging_strategy="steps", logging_steps=3)
    result = bounded(trainer.train_async, backend)
    assert (result.global_step, result.training_loss) == (12, expected.training_loss)
    assert weights(trainer) == weights(beside)
    assert not trainer.is_in_train


@BACKENDS
def test_a_cancellation_saves_where_asked_and_the_training_can_go_on(
    make_trainer: Make, tmp_path: Path, backend: str
) -> None:
    reached, go_on, watcher = threading.Event(), threading.Event(), Watcher()

    def third_step() -> None:
        reached.set()
        go_on.wait(30)

    trainer = make_trainer(given={"callbacks": [AtStep(3, third_step), watcher]}, max_steps=8)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: trainer.train_async(on_cancel="save"))
            await anyio.to_thread.run_sync(reached.wait)
            tasks.cancel_scope.cancel()
            go_on.set()
        # The service goes on, with this trainer too.
        again = await trainer.train_async(True)
        assert again.global_step == 8

    bounded(main, backend)
    ends = [(event.status, event.step, event.attempt) for event in watcher.of("train_end")]
    assert ends == [("stopped", 3, 1), ("finished", 8, 2)]
    assert [path.name for path in list_checkpoints(tmp_path / "out")] == ["checkpoint-3"]


@BACKENDS
def test_a_cancellation_abandons_an_evaluation(make_trainer: Make, backend: str) -> None:
    reached, go_on, watcher = threading.Event(), threading.Event(), Watcher()

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(8))
            self.evaluated = 0

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            if not self.training:
                self.evaluated += 1
                reached.set()
                go_on.wait(30)
            return {"loss": (x @ self.weight - labels[:, 0]).square().mean()}

    model = Slow()
    trainer = make_trainer(
        model=model,
        given={"callbacks": [watcher], "eval_dataset": samples(400, seed=2)},
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=1,
    )

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(trainer.train_async)
            await anyio.to_thread.run_sync(reached.wait)
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.wait_all_tasks_blocked()
            go_on.set()

    bounded(main, backend)
    assert model.evaluated == 1
    assert [event.step for event in watcher.of("train_end")] == [1]


def test_a_second_training_of_one_trainer_is_refused(make_trainer: Make) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def first_step() -> None:
        reached.set()
        go_on.wait(30)

    trainer = make_trainer(given={"callbacks": [AtStep(1, first_step)]})

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(trainer.train_async)
            await anyio.to_thread.run_sync(reached.wait)
            with pytest.raises(StepbusError, match="is training already"):
                await trainer.train_async()
            go_on.set()
        with pytest.raises(ArgumentError, match="on_cancel='sav'"):
            await trainer.train_async(on_cancel="sav")  # type: ignore[arg-type]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await trainer.train_async()
        assert (await trainer.train_async()).global_step == 12

    bounded(main, "asyncio")


def test_a_training_that_fails_fails_the_await(make_trainer: Make) -> None:
    def fail() -> None:
        raise RuntimeError("boom")

    class Fails(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            fail()

    trainer = make_trainer(trainer_class=Fails)
    with pytest.raises(RuntimeError, match="boom"):
        bounded(trainer.train_async, "asyncio")
    assert trainer.summary is not None
    assert trainer.summary.status == "failed"


def test_its_run_is_known_before_it_trains(make_trainer: Make) -> None:
    watcher = Watcher()
    trainer = make_trainer(given={"callbacks": [watcher]})
    run_id = trainer.run_id
    bounded(trainer.train_async, "asyncio")
    assert {event.run_id for event in watcher.events} == {run_id}
    assert trainer.run_id == run_id
