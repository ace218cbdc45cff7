"""Errors while a Trainer trains or evaluates: told, raised, and nothing is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from stepbus import Trainer
from tests.engine.trainer.conftest import Regression, Watcher
from tests.engine.trainer.left_behind import Data, FailsAt, nothing_left_behind

Make = Callable[..., Trainer]


@pytest.fixture(autouse=True)
def _nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    with nothing_left_behind(tmp_path):
        yield


def check_failed(trainer: Trainer, watcher: Watcher, error: BaseException, text: str) -> None:
    (failed,) = watcher.of("run_failed")
    assert failed.error == type(error).__name__
    assert text in failed.traceback
    assert watcher.events[-1] is failed
    assert not watcher.of("train_end")
    assert (trainer.is_in_train, trainer.bus.running) == (False, False)
    assert trainer.summary is not None
    assert trainer.summary.status == "failed"
    # While the error, with all its frames, is still held.
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "error", [LookupError("no such thing"), KeyboardInterrupt(), SystemExit(5), GeneratorExit()]
)
def test_an_error_in_the_step_is_told_and_raised(
    make_trainer: Make, error: BaseException, workers: int
) -> None:
    watcher, model = Watcher(), FailsAt(error)
    trainer = make_trainer(
        model=model, given={"callbacks": [watcher]}, dataloader_num_workers=workers
    )
    with pytest.raises(type(error)) as caught:
        trainer.train()
    assert caught.value is error
    check_failed(trainer, watcher, error, "in forward")
    assert watcher.of("run_failed")[0].step == 2
    model.error = None
    assert trainer.train().global_step == 12


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True])
def test_an_error_in_a_worker_of_the_data(make_trainer: Make, persistent: bool) -> None:
    watcher, data = Watcher(), Data(LookupError("no such sample"))
    trainer = make_trainer(
        given={"callbacks": [watcher], "train_dataset": data},
        dataloader_num_workers=2,
        dataloader_persistent_workers=persistent,
    )
    with pytest.raises(LookupError, match="no such sample") as caught:
        trainer.train()
    check_failed(trainer, watcher, caught.value, "no such sample")
    data.error = None
    assert trainer.train().global_step == 24


@pytest.mark.slow
def test_a_worker_that_is_killed(make_trainer: Make) -> None:
    class Kills(Trainer):
        armed = True

        def training_step(self, *given: Any, **keywords: Any) -> Any:
            if self.state.global_step == 2 and self.armed:
                worker = multiprocessing.active_children()[0]
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGKILL)
                os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
            return super().training_step(*given, **keywords)

    watcher = Watcher()
    trainer = make_trainer(
        trainer_class=Kills,
        given={"callbacks": [watcher], "train_dataset": Data()},
        dataloader_num_workers=2,
    )
    with pytest.raises(RuntimeError, match="killed by signal") as caught:
        trainer.train()
    check_failed(trainer, watcher, caught.value, "killed by signal")
    trainer.armed = False  # type: ignore[attr-defined]
    assert trainer.train().global_step == 24


@pytest.mark.slow
@pytest.mark.parametrize("where", ["compute_metrics", "forward", "worker"])
@pytest.mark.parametrize("training", [True, False])
def test_an_error_in_an_evaluation_with_workers(
    make_trainer: Make, where: str, training: bool
) -> None:
    broken = [True]

    class Breaks(Regression):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            if broken and where == "forward" and not self.training:
                raise LookupError("no such thing")
            return super().forward(x, labels)

    def metrics(prediction: Any) -> dict[str, float]:
        if broken and where == "compute_metrics":
            raise LookupError("no such thing")
        return {"score": 1.0}

    watcher, data = Watcher(), Data(LookupError("no such thing") if where == "worker" else None)
    trainer = make_trainer(
        model=Breaks(),
        given={"callbacks": [watcher], "compute_metrics": metrics, "eval_dataset": data},
        eval_strategy="epoch",
        dataloader_num_workers=2,
    )
    with pytest.raises(LookupError, match="no such thing") as caught:
        trainer.train() if training else trainer.evaluate()
    (failed,) = watcher.of("run_failed")
    assert "no such thing" in failed.traceback
    assert watcher.events[-1] is failed
    assert not watcher.of("evaluate")
    assert multiprocessing.active_children() == [], "while the error is still held"
    del caught
    broken.clear()
    data.error = None
    assert trainer.train().global_step == 12
    assert len(watcher.of("evaluate")) == 2
