"""The bus behind Lightning's Trainer, as one of its callbacks and one of its loggers."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from ...bus import EventBus
from ..ending import AFTER_ERROR_S
from ..run_identity import RunIdentity
from .bridged_run import BridgedRun
from .host_values import host_values
from .lightning_names import with_lightnings
from .lightning_runs import IDENTITY, LightningRuns
from .lightning_state import batches_of, figures_of, told

LAST_WORDS_S = 5.0
"""How long the end of a training waits for the votes of those who listen."""


class LightningBridge(LightningRuns):
    """Puts a bus behind a Lightning `Trainer`.

        bridge = LightningBridge(bus)
        trainer = pl.Trainer(callbacks=[bridge], logger=bridge.logger)

    `NAMES` says which call of Lightning's becomes which event, and docs/from_lightning.md how. A
    `fit` is a run, which starts and stops a bus that nobody else has started; `validate`, `test`
    and `predict` are sessions of that run. A fit from a checkpoint that a bridged fit has written
    is the next attempt of that run. `with bridge:` keeps one bus running, and trackers open, over
    several calls.

    An instance is a callback of `lightning.pytorch` and of `pytorch_lightning`, whichever the
    program has imported.

    Args:
        bus: where events go; one of its own by default, at `bridge.bus`.

    Raises:
        ImportError: Lightning is not installed.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(with_lightnings(cls, "callbacks.Callback"))

    def __init__(self, bus: EventBus | None = None) -> None:
        super().__init__(bus or EventBus(), owns_bus=bus is None)
        self._batch = 0
        self._num_batches: int | None = None
        self._learning_rate: float | None = None
        self._before: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.bus.hold()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abandon(error)
        seconds = self.bus.drain_timeout
        self.bus.let_go(seconds if error is None else min(seconds, AFTER_ERROR_S))

    def close(self) -> None:
        """Ends a run that is still open, as failed, and closes a bus of the bridge's own."""
        self.abandon(None)
        if self.owns_bus:
            self.bus.close()

    # Lightning's hooks: a call

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Notes whose call it is."""
        self.found(trainer)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Opens the run."""
        self.open_run(trainer, trains=True)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Says so."""
        self.begin_training(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last merge point, for which those who listen are waited for."""
        run = self._run
        if run is not None:
            self._means.settle()
            run.hear_out(LAST_WORDS_S)
            run.hold("step_end", only=("save",))

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Says that training has ended; Lightning has written its last checkpoint by then."""
        run = self._run
        if run is None:
            return
        if not self.begun:
            self.begin_training(trainer)
        last = run.state.max_steps
        stopped = bool(trainer.should_stop) and not 0 < last <= trainer.global_step
        run.finish(figures_of(trainer), stopped=stopped)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Ends the run, or the session."""
        self._close_run()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Says so; where the logger is attached, after the checkpoint that may be written yet."""
        self._error = exception
        if not any(other is self.logger for other in trainer.loggers):
            self.finalized()

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Names the run in the checkpoint."""
        if self._run is not None:
            checkpoint[IDENTITY] = self._run.identity._asdict()

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Learns which run is continued."""
        known = checkpoint.get(IDENTITY)
        if known is not None:
            self._resumed = RunIdentity(known["run_id"], known["attempt"] + 1)

    # A training

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Says so."""
        run = self._run
        if run is not None:
            run.at(trainer.global_step, float(trainer.current_epoch))
            run.emit("epoch_begin")
            run.leave()

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """The data is there."""
        run = self._run
        if run is None or self.in_step:
            return
        run.loaded_s = time.perf_counter()
        self.in_step = True
        if run.asked.waiting:
            self._means.settle()
        if self._step_begin.active:
            run.link.fire(self._step_begin)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Says so, and notes the rate that the step uses: the schedule moves on next."""
        if self._step_end.active:
            rate = optimizer.param_groups[0]["lr"]
            self._learning_rate = rate if type(rate) is float else _number(rate)
        if self._pre_optimizer_step.active:
            self._pre_optimizer_step.link.fire(self._pre_optimizer_step)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A merge point, where the optimizer has stepped."""
        run = self._run
        if run is None:
            return
        step = trainer.global_step
        if step == self.step:
            if self._substep_end.active:
                run.link.fire(self._substep_end)
            return
        self.step, self.in_step = step, False
        own = run.state.__dict__
        own["global_step"] = step
        own["epoch"] = trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches
        run.end_step(self._learning_rate)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """A merge point."""
        run = self._run
        if run is None:
            return
        self._means.settle()
        run.at(trainer.global_step, float(trainer.current_epoch + 1))
        run.emit("epoch_end")
        run.hold("epoch_end", only=("save",))
        run.leave()

    # Evaluations and predictions

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Notes what is known before it; the sanity check is passed over."""
        if not trainer.sanity_checking:
            self._begin_evaluation(trainer)
            self._means.validating()
            self._before = dict(trainer.callback_metrics)

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Notes what is known before it."""
        self._begin_evaluation(trainer)
        self._before = dict(trainer.callback_metrics)

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Counts from here."""
        self._begin_evaluation(trainer)

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        """Counts the batches, but not those of the sanity check."""
        if self.validating:
            self._count_batch()

    def on_test_batch_end(self, *_: Any) -> None:
        """Counts the batches."""
        self._count_batch()

    def on_predict_batch_end(self, *_: Any) -> None:
        """Counts the batches."""
        self._count_batch()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Says so, with what the validation has logged; a save can be asked for, and a stop."""
        if not self.validating:
            return
        metrics = self._end_evaluation(trainer, "evaluate")
        run = self._run
        if run is not None and self.begun:
            self._means.validated(told(run.state.global_step, metrics))
            run.hold("evaluate", only=("save",))
            run.leave()

    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        """Says so, with what the test has logged."""
        self._end_evaluation(trainer, "predict")

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Says so."""
        self._before = dict(trainer.callback_metrics)
        self._end_evaluation(trainer, "predict")

    def _begin_evaluation(self, trainer: Any) -> BridgedRun:
        run = self._run or self.open_run(trainer, trains=False)
        self.validating = True
        self._batch, self._num_batches = 0, batches_of(trainer)
        run.link.pulse.busy = "evaluating"
        return run

    def _count_batch(self) -> None:
        self._batch += 1
        if self._prediction_step.active:
            values = {"batch": self._batch, "num_batches": self._num_batches}
            self._prediction_step.link.fire(self._prediction_step, values)

    def _end_evaluation(self, trainer: Any, kind: str) -> dict[str, Any]:
        """Announces what has been logged since it began: those metrics are new objects."""
        run, before = self._run, self._before
        self.validating, self._before = False, {}
        if run is None:
            return {}
        run.link.pulse.busy = ""
        metrics = {
            name: value
            for name, value in trainer.callback_metrics.items()
            if value is not before.get(name)
        }
        values, handles = host_values("the Trainer", metrics, run.metrics)
        run.emit(kind, {"metrics": values}, deferred=handles)
        return metrics


def _number(value: Any) -> float | None:
    """A learning rate as a number; None for one on a device, which is not waited for."""
    if isinstance(value, Tensor):
        return float(value) if value.is_cpu else None
    return float(value)
