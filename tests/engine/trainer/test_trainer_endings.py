"""Trainings that are voted down, fail, or meet a full disk: who hears of it, what is left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepbus import (
    CheckpointError,
    StepbusError,
    Subscriber,
    Trainer,
    TrainerCallback,
)
from stepbus.engine import ending
from stepbus.engine.checkpoint import list_checkpoints, read_checkpoint
from tests.engine.trainer.conftest import Regression, Watcher, samples

Make = Callable[..., Trainer]
ENDLESS = 1_000_000
OF_OTHERS = ("pymp-", "torchinductor")
"""Folders that Python and torch make once for the whole process."""


def open_files() -> set[str]:
    links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    found = {str(link.readlink()) for link in links if link.is_symlink()}
    return {name for name in found if not name.startswith(("pipe:", "/dev/shm/"))}


def what_lives() -> dict[str, Any]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": children,
        "files": open_files(),
        "temporary": sorted(
            name for name in os.listdir(tempfile.gettempdir()) if not name.startswith(OF_OTHERS)
        ),
        "frozen": gc.get_freeze_count(),
    }


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    gc.collect()
    before = what_lives()
    yield
    assert what_lives() == before
    assert not list(tmp_path.rglob(".checkpoint-*"))


class AtStep(TrainerCallback):
    """Calls something once, when a step has ended."""

    def __init__(self, step: int, call: Callable[[], object]) -> None:
        self._step = step
        self._call = call

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if state.global_step == self._step:
            self._call()


# Votes from outside


@pytest.mark.slow
def test_an_empty_file_named_stop_ends_the_training(make_trainer: Make, tmp_path: Path) -> None:
    votes, watcher = tmp_path / "out" / "votes", Watcher()

    def touch() -> None:
        votes.mkdir()
        (votes / "stop").touch()

    trainer = make_trainer(given={"callbacks": [watcher, AtStep(3, touch)]}, max_steps=ENDLESS)
    result = trainer.train()
    assert 3 < result.global_step < ENDLESS
    (verdict,) = watcher.of("verdict")
    assert (verdict.action, verdict.outcome) == ("stop", "acted")
    assert [vote.voter for vote in verdict.votes] == ["file:stop"]
    (done,) = (votes / "done").iterdir()
    assert '"outcome": "acted"' in done.read_text()
    assert not (votes / "stop").exists()
    assert trainer.summary is not None
    assert trainer.summary.status == "stopped"


@pytest.mark.slow
def test_the_command_line_has_a_training_save_and_stop(make_trainer: Make, tmp_path: Path) -> None:
    watcher, answers = Watcher(), []

    def vote() -> None:
        for action in ("save", "stop"):
            words = ["vote", str(tmp_path / "out"), action, "--reason", "enough", "--voter", "ann"]
            answers.append(
                subprocess.run(
                    [sys.executable, "-m", "stepbus", *words],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=60,
                    check=False,
                    text=True,
                )
            )

    thread = threading.Thread(target=vote)
    given = {"callbacks": [watcher, AtStep(3, thread.start)]}
    trainer = make_trainer(given=given, max_steps=ENDLESS)
    step = trainer.train().global_step
    thread.join(60)
    save, stop = answers
    assert save.returncode == 0, save.stdout + save.stderr
    assert save.stdout.startswith("save acted at step ")
    assert stop.returncode == 0, stop.stdout + stop.stderr
    (checkpoint,) = list_checkpoints(str(tmp_path / "out"))
    assert 3 <= read_checkpoint(checkpoint).step <= step
    voters = [(v.action, [vote.voter for vote in v.votes]) for v in watcher.of("verdict")]
    assert voters == [("save", ["ann"]), ("stop", ["ann"])]


def test_another_thread_stops_the_training_by_its_bus(make_trainer: Make) -> None:
    watcher = Watcher()
    trainer = make_trainer(given={"callbacks": [watcher]}, max_steps=ENDLESS)

    def vote() -> None:
        trainer.bus.vote("save", reason="before we go", voter="ann")
        trainer.bus.vote("stop", reason="lunch", voter="ann")

    thread = threading.Thread(target=vote)
    trainer.add_callback(AtStep(3, thread.start))
    assert 3 <= trainer.train().global_step < ENDLESS
    thread.join(10)
    end = watcher.of("train_end")[0]
    assert (end.status, end.stopped_by, end.reason) == ("stopped", "ann", "lunch")
    assert len(watcher.of("save")) == 1


# Failures


class FailsAt(Regression):
    """Raises in the third batch that it trains on."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error
        self.calls = 0

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        self.calls += self.training
        if self.error is not None and self.calls == 3:
            raise self.error
        return super().forward(x, labels)


class Data:
    """Samples of which one breaks while it is loaded."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.samples = samples(48)
        self.error = error

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if self.error is not None and index == 17:
            raise self.error
        return self.samples[index]


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
    with pytest.raises(LookupError, match="no such thing"):
        trainer.train() if training else trainer.evaluate()
    (failed,) = watcher.of("run_failed")
    assert "no such thing" in failed.traceback
    assert watcher.events[-1] is failed
    assert not watcher.of("evaluate")
    assert multiprocessing.active_children() == []
    broken.clear()
    data.error = None
    assert trainer.train().global_step == 12
    assert len(watcher.of("evaluate")) == 2


def test_a_failed_training_waits_ten_seconds_at_most(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ending.AFTER_ERROR_S == 10
    monkeypatch.setattr(ending, "AFTER_ERROR_S", 0.3)
    trainer = make_trainer(model=FailsAt(ValueError("broken")), drain_timeout_s=60)
    with stuck_subscriber(trainer), pytest.raises(ValueError, match="broken"):
        started = time.monotonic()
        trainer.train()
    assert time.monotonic() - started < 20


class stuck_subscriber:  # noqa: N801
    """For the length of the block, a subscriber of a trainer's does not return from its event."""

    def __init__(self, trainer: Trainer) -> None:
        self._release = threading.Event()
        self._entered = threading.Event()
        stuck = self

        class Stuck(Subscriber):
            def on_step_end(self, event: Any) -> None:
                stuck._entered.set()
                stuck._release.wait(60)

        trainer.add_callback(Stuck)
        trainer.add_callback(AtStep(1, lambda: self._entered.wait(30)))

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self._release.set()
        for thread in threading.enumerate():
            if thread.name == "stepbus-Stuck":
                thread.join(30)


@pytest.mark.slow
def test_a_stuck_subscriber_is_named_and_does_not_hold_up_the_end(
    make_trainer: Make, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher()
    trainer = make_trainer(given={"callbacks": [watcher]}, drain_timeout_s=0.5)
    with stuck_subscriber(trainer):
        started = time.monotonic()
        assert trainer.train().global_step == 12
        seconds = time.monotonic() - started
    assert seconds < 20
    assert any("Stuck" in record.getMessage() for record in caplog.records)
    assert watcher.names()[-1] == "train_end", "the others have all they were to have"
    (row,) = [row for row in trainer.ledger if row.subscriber == "Stuck"]
    assert row.stuck


def test_a_with_block_that_an_error_leaves_waits_ten_seconds_at_most(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    trainer = make_trainer(drain_timeout_s=60)
    stop = trainer.bus.stop
    monkeypatch.setattr(
        trainer.bus, "stop", lambda seconds=None: (waited.append(seconds), stop(seconds))
    )

    def fail() -> None:
        with trainer:
            trainer.train()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with trainer:
        trainer.train()
    assert waited == [10.0, 60.0]


# Leaving nothing behind


@pytest.mark.parametrize("call", ["train", "evaluate", "predict", "log", "with"])
def test_each_call_leaves_the_process_as_it_was(
    make_trainer: Make, tmp_path: Path, call: str
) -> None:
    trainer = make_trainer(
        given={"eval_dataset": samples(8), "callbacks": [Watcher()]}, save_strategy="epoch"
    )
    before = what_lives()
    for _ in range(2):
        if call == "predict":
            trainer.predict(samples(4))
        elif call == "log":
            trainer.log({"value": 1.0})
        elif call == "with":
            with trainer:
                trainer.evaluate()
                trainer.train()
        else:
            getattr(trainer, call)()
        assert what_lives() == before
        assert not trainer.bus.running


def test_a_full_disk_is_one_error_and_harms_no_earlier_checkpoint(
    make_trainer: Make, tmp_path: Path
) -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8000)

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            return {"loss": (self.layer(x).mean(1, keepdim=True) - labels).square().mean()}

    watcher = Watcher()
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    fill = AtStep(3, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, most)))
    trainer = make_trainer(
        model=Large(),
        given={"callbacks": [watcher, fill]},
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
    )
    try:
        with pytest.raises(CheckpointError) as caught:
            trainer.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    message = str(caught.value)
    assert "checkpoint-4 was not written to" in message
    assert "File too large" in message
    assert "Earlier checkpoints are untouched" in message
    (failed,) = watcher.of("run_failed")
    assert (failed.error, failed.step) == ("CheckpointError", 4)
    assert [event.step for event in watcher.of("save")] == [2]
    assert [path.name for path in list_checkpoints(str(tmp_path / "out"))] == ["checkpoint-2"]
    trainer.pop_callback(fill)
    assert trainer.train(resume_from_checkpoint=True).global_step == 12


# Forked workers


@pytest.mark.slow
def test_in_workers_of_the_data_the_bus_is_inert_and_says_so(make_trainer: Make) -> None:
    class Meddles(Data):
        trainer: Trainer

        def __getitem__(self, index: int) -> dict[str, Tensor]:
            refused = torch.zeros(())
            for call in (lambda: self.trainer.bus.vote("stop"), lambda: self.trainer.log({"a": 1})):
                try:
                    call()
                except StepbusError as error:
                    refused += "forked" in str(error)
            own = [name for t in threading.enumerate() if (name := t.name).startswith("stepbus")]
            return {**self.samples[index], "refused": refused, "threads": torch.tensor(len(own))}

    class Looks(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **keywords: Any) -> Any:
            refused.append(inputs.pop("refused").tolist())
            threads.append(inputs.pop("threads").tolist())
            return super().compute_loss(model, inputs, *given, **keywords)

    refused: list[list[float]] = []
    threads: list[list[int]] = []
    data, watcher = Meddles(), Watcher()
    trainer = make_trainer(
        trainer_class=Looks,
        given={"train_dataset": data, "callbacks": [watcher]},
        dataloader_num_workers=2,
        remove_unused_columns=False,
    )
    data.trainer = trainer
    assert trainer.train().global_step == 24
    assert refused == [[2.0] * 4] * 24
    assert threads == [[0] * 4] * 24
    assert watcher.names().count("step_end") == 24
    assert not watcher.of("verdict")
