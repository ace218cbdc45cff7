"""Ctrl-C and SIGTERM while a Trainer trains: saved, stopped, and ended as the signal asks for."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from stepbus import Subscriber, Trainer, TrainerCallback, get_last_checkpoint
from tests.engine.trainer.conftest import Regression, Watcher, samples, weights

Make = Callable[..., Trainer]
HANDLED = (signal.SIGINT, signal.SIGTERM)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in HANDLED]


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    before = handlers()
    yield
    assert handlers() == before
    assert not [t.name for t in threading.enumerate() if t.name.startswith("stepbus")]


class Signalled(Trainer):
    """Sends itself signals within `compute_loss`: how many by the number of the step."""

    signals: dict[int, list[signal.Signals]] = {}  # noqa: RUF012
    installed = False

    def compute_loss(self, model: Any, inputs: Any, *given: Any, **keywords: Any) -> Any:
        for number in self.signals.get(self.state.global_step + 1, []):
            signal.raise_signal(number)
        return super().compute_loss(model, inputs, *given, **keywords)


def make_signalled(
    make_trainer: Make, watcher: Watcher, signals: dict[int, list[signal.Signals]], **fields: Any
) -> Trainer:
    given = {"callbacks": [watcher, *fields.pop("callbacks", [])], **fields.pop("given", {})}
    trainer = make_trainer(trainer_class=Signalled, given=given, **fields)
    trainer.signals = signals  # type: ignore[attr-defined]
    return trainer


def saved(watcher: Watcher) -> list[int]:
    return [event.step for event in watcher.of("save")]


@pytest.mark.parametrize(
    ("number", "ended"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
@pytest.mark.parametrize("save_strategy", ["no", "steps", "best"])
def test_the_first_signal_saves_the_present_step_and_what_follows_train_does_not_run(
    make_trainer: Make,
    tmp_path: Path,
    number: signal.Signals,
    ended: type[BaseException],
    save_strategy: str,
) -> None:
    watcher = Watcher()
    fields: dict[str, Any] = {"save_strategy": save_strategy}
    if save_strategy == "best":
        fields |= {"eval_strategy": "epoch", "metric_for_best_model": "loss"}
    trainer = make_signalled(make_trainer, watcher, {3: [number]}, **fields)
    with pytest.raises(ended) as caught:
        trainer.train()
    assert getattr(caught.value, "code", 143) == 143
    assert saved(watcher) == [3]
    assert str(get_last_checkpoint(str(tmp_path / "out"))).endswith("checkpoint-3")
    assert watcher.names()[-1] == "train_end", "all was delivered"
    end = watcher.events[-1]
    assert (end.status, end.step) == ("stopped", 3)  # type: ignore[attr-defined]
    assert {event.action for event in watcher.of("verdict")} == {"save", "stop"}
    assert trainer.summary is not None
    assert trainer.summary.reason == f"{number.name} was received"
    assert (trainer.is_in_train, trainer.bus.running) == (False, False)
    trainer.signals = {}  # type: ignore[attr-defined]
    assert trainer.train().global_step == 12


def test_a_second_ctrl_c_interrupts_the_step_at_once(make_trainer: Make) -> None:
    watcher = Watcher()
    trainer = make_signalled(make_trainer, watcher, {3: [signal.SIGINT, signal.SIGINT]})
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert saved(watcher) == []
    (failed,) = watcher.of("run_failed")
    assert (failed.error, failed.step) == ("KeyboardInterrupt", 2)
    assert "compute_loss" in failed.traceback
    assert watcher.names()[-1] == "run_failed"


def test_sigterm_that_is_repeated_changes_nothing_and_ctrl_c_after_it_interrupts(
    make_trainer: Make,
) -> None:
    watcher = Watcher()
    trainer = make_signalled(make_trainer, watcher, {3: [signal.SIGTERM, signal.SIGTERM]})
    with pytest.raises(SystemExit, match="143"):
        trainer.train()
    assert saved(watcher) == [3]
    trainer.signals = {2: [signal.SIGTERM, signal.SIGINT]}  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert saved(watcher) == [3]


def test_handlers_are_installed_for_the_time_of_train_alone(make_trainer: Make) -> None:
    before, seen = handlers(), {}

    class Looks(TrainerCallback):
        def on_step_end(self, *given: Any, **keywords: Any) -> None:
            seen["step_end"] = handlers() == before

        def on_prediction_step(self, *given: Any, **keywords: Any) -> None:
            seen["prediction_step"] = handlers() == before

        def on_log(self, *given: Any, **keywords: Any) -> None:
            seen["log"] = handlers() == before

    trainer = make_trainer(given={"callbacks": [Looks()], "eval_dataset": samples(8)})
    trainer.evaluate()
    assert seen == {"prediction_step": True, "log": True}
    trainer.predict(samples(4))
    trainer.log({"value": 1.0})
    with trainer:
        trainer.evaluate()
    assert seen == {"prediction_step": True, "log": True}
    trainer.train()
    assert seen == {"prediction_step": True, "log": False, "step_end": False}
    assert handlers() == before


def test_off_the_main_thread_none_is_installed(make_trainer: Make) -> None:
    before, seen, results = handlers(), [], []

    class Looks(TrainerCallback):
        def on_step_end(self, *given: Any, **keywords: Any) -> None:
            seen.append(handlers() == before)

    trainer = make_trainer(given={"callbacks": [Looks()]})
    thread = threading.Thread(target=lambda: results.append(trainer.train().global_step))
    thread.start()
    thread.join(60)
    assert results == [12]
    assert seen == [True] * 12


def test_handlers_of_the_programs_own_are_called_too_and_put_back(make_trainer: Make) -> None:
    heard: list[str] = []

    def own(number: int, frame: object) -> None:
        heard.append(signal.Signals(number).name)

    former = {number: signal.signal(number, own) for number in HANDLED}
    try:
        for number, ended in zip(HANDLED, (KeyboardInterrupt, SystemExit), strict=True):
            watcher = Watcher()
            trainer = make_signalled(make_trainer, watcher, {3: [number]})
            with pytest.raises(ended):
                trainer.train()
            assert saved(watcher) == [3]
        assert handlers() == [own, own]
        trainer = make_trainer(model=Broken())
        with pytest.raises(LookupError):
            trainer.train()
        assert handlers() == [own, own]
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert heard == ["SIGINT", "SIGTERM"]


class Broken(Regression):
    def forward(self, x: Any, labels: Any = None) -> Any:
        raise LookupError("broken model")


class SignalInEvaluation(Regression):
    """Sends a signal with the second batch of an evaluation."""

    evaluated = 0
    armed = True

    def forward(self, x: Any, labels: Any = None) -> Any:
        if not self.training and self.armed:
            self.evaluated += 1
            if self.evaluated == 2:
                signal.raise_signal(signal.SIGTERM)
        return super().forward(x, labels)


@pytest.mark.parametrize("at", ["steps", "start", "a vote"])
def test_a_signal_abandons_an_evaluation_saves_and_stops(make_trainer: Make, at: str) -> None:
    watcher, model = Watcher(), SignalInEvaluation()
    metrics: list[dict[str, float]] = []

    def compute_metrics(prediction: Any) -> dict[str, float]:
        metrics.append({"score": 1.0})
        return metrics[-1]

    given = {"eval_dataset": samples(12), "compute_metrics": compute_metrics}
    fields: dict[str, Any] = {
        "steps": {"eval_strategy": "steps", "eval_steps": 2},
        "start": {"eval_strategy": "steps", "eval_steps": 7, "eval_on_start": True},
        "a vote": {},
    }[at]
    trainer = make_signalled(
        make_trainer,
        watcher,
        {},
        model=model,
        given=given,
        per_device_eval_batch_size=2,
        logging_strategy="steps",
        logging_steps=1,
        **fields,
    )
    if at == "a vote":
        trainer.bus.vote("evaluate", voter="ann")
    with pytest.raises(SystemExit, match="143"):
        trainer.train()
    step = {"steps": 2, "start": 0, "a vote": 1}[at]
    assert (model.evaluated, metrics) == (2, [])
    assert saved(watcher) == [step]
    assert not watcher.of("evaluate")
    assert not any("eval_loss" in row for row in trainer.state.log_history)
    assert watcher.events[-1].name == "train_end"
    if at == "a vote":
        verdicts = {event.action: event for event in watcher.of("verdict")}
        assert verdicts["evaluate"].outcome == "refused"
        assert "abandoned" in verdicts["evaluate"].detail
    model.armed = False
    assert trainer.train().global_step == 12


def test_a_signal_during_a_save_stops_after_it(make_trainer: Make, tmp_path: Path) -> None:
    watcher, folders = Watcher(), []

    class Saves(Trainer):
        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            folders.append(output_dir)
            if len(folders) == 2:
                signal.raise_signal(signal.SIGINT)
            super()._save(output_dir, state_dict)

    trainer = make_trainer(
        trainer_class=Saves, given={"callbacks": [watcher]}, save_strategy="steps", save_steps=2
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert trainer.state.global_step == 4
    assert sorted(set(saved(watcher))) == [2, 4]
    assert watcher.names()[-1] == "train_end"
    resumed = make_trainer()
    assert resumed.train(resume_from_checkpoint=True).global_step == 12


def test_a_second_ctrl_c_during_a_save_leaves_nothing_half_written(
    make_trainer: Make, tmp_path: Path
) -> None:
    watcher = Watcher()

    class Saves(Trainer):
        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
            super()._save(output_dir, state_dict)
            if self.state.global_step == 4:
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)

    trainer = make_trainer(
        trainer_class=Saves, given={"callbacks": [watcher]}, save_strategy="steps", save_steps=2
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert watcher.of("run_failed")[0].step == 4
    left = sorted(path.name for path in (tmp_path / "out").iterdir() if "checkpoint" in path.name)
    assert left == ["checkpoint-2"]


@pytest.mark.timeout(40)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_second_ctrl_c_that_a_finalizer_swallows_still_ends_the_waiting(
    make_trainer: Make,
) -> None:
    released, in_finalizers = threading.Event(), []

    class Hangs(Subscriber):
        def on_save(self, event: Any) -> None:
            released.wait()

    class Dying:
        def __del__(self) -> None:
            in_finalizers.append(threading.current_thread().name)
            signal.raise_signal(signal.SIGINT)

    class Lets(TrainerCallback):
        def on_save(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            Dying()

    trainer = make_signalled(
        make_trainer,
        Watcher(),
        {3: [signal.SIGINT]},
        callbacks=[Hangs, Lets],
        drain_timeout_s=90,
        preemption_budget_s=90,
    )
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    finally:
        released.set()
        for thread in threading.enumerate():
            if thread.name.startswith("stepbus"):
                thread.join(30)
    assert in_finalizers == ["MainThread"]
    assert get_last_checkpoint(str(trainer.args.output_dir)) is not None


def test_a_save_that_took_longer_than_the_signal_leaves_is_not_begun(make_trainer: Make) -> None:
    watcher = Watcher()
    trainer = make_signalled(
        make_trainer,
        watcher,
        {4: [signal.SIGTERM]},
        save_strategy="steps",
        save_steps=3,
        preemption_budget_s=1e-6,
    )
    with pytest.raises(SystemExit, match="143"):
        trainer.train()
    assert saved(watcher) == [3]
    verdicts = {event.action: event for event in watcher.of("verdict")}
    assert verdicts["save"].outcome == "refused"
    assert "the signal leaves 0.0 s" in verdicts["save"].detail
    assert trainer.state.global_step == 4


def test_workers_that_the_signal_ends_too_do_not_break_the_step_that_is_saved(
    make_trainer: Make,
) -> None:
    class OwnLoader(Signalled):
        def get_train_dataloader(self) -> Any:
            return DataLoader(samples(48), batch_size=4, num_workers=2)  # type: ignore[arg-type]

        def training_step(self, *given: Any, **keywords: Any) -> Any:
            loss = super().training_step(*given, **keywords)
            if self.state.global_step + 1 in self.signals:
                for worker in multiprocessing.active_children():
                    assert worker.pid is not None
                    os.kill(worker.pid, signal.SIGKILL)
                    # Torch's handler of the signal about it would raise here.
                    os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
            return loss

    watcher, on_child = Watcher(), signal.getsignal(signal.SIGCHLD)
    trainer = make_trainer(trainer_class=OwnLoader, given={"callbacks": [watcher]})
    trainer.signals = {3: [signal.SIGTERM]}  # type: ignore[attr-defined]
    with pytest.raises(SystemExit, match="143"):
        trainer.train()
    assert saved(watcher) == [3]
    assert watcher.names()[-1] == "train_end"
    now = signal.getsignal(signal.SIGCHLD)
    assert now is on_child or "signal_handling" in now.__module__, "torch's own is back"


def test_a_signal_before_a_batch_that_does_not_fit_is_not_lost(make_trainer: Make) -> None:
    class Greedy(Regression):
        def forward(self, x: Any, labels: Any = None) -> Any:
            if len(x) > 3:
                signal.raise_signal(signal.SIGTERM)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate too much")
            return super().forward(x, labels)

    trainer = make_trainer(model=Greedy(), auto_find_batch_size=True)
    with pytest.raises(SystemExit, match="143"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_no_evaluation_is_begun_once_a_signal_has_come(make_trainer: Make) -> None:
    watcher = Watcher()
    trainer = make_signalled(make_trainer, watcher, {3: [signal.SIGTERM]}, eval_strategy="epoch")
    with pytest.raises(SystemExit, match="143"):
        trainer.train()
    assert saved(watcher) == [3]
    assert watcher.names().count("epoch_end") == 1
    assert not watcher.of("prediction_step")


def test_a_checkpoint_of_before_the_first_step_can_be_resumed(make_trainer: Make) -> None:
    fields: dict[str, Any] = {"eval_strategy": "epoch", "eval_on_start": True}
    model = SignalInEvaluation()
    trainer = make_trainer(model=model, per_device_eval_batch_size=2, **fields)
    with pytest.raises(SystemExit, match="143"):
        trainer.train()
    resumed = make_trainer(**fields)
    assert resumed.train(resume_from_checkpoint=True).global_step == 12
    unbroken = make_trainer(**fields)
    unbroken.train()
    assert weights(resumed) == weights(unbroken)


def test_ctrl_c_at_the_last_step_ends_a_finished_training_by_it_all_the_same(
    make_trainer: Make,
) -> None:
    watcher = Watcher()
    trainer = make_signalled(make_trainer, watcher, {12: [signal.SIGINT]})
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert saved(watcher) == [12]
    assert watcher.events[-1].status == "finished"  # type: ignore[attr-defined]
