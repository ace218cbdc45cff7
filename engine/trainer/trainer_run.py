"""A run of the Trainer's, and the Trainer's ways in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from ...schemas.errors import ArgumentError
from ..front_end import FrontEnd
from ..metric_buffer import MetricBuffer, Number, Scalar
from ..run import Run
from .gathering import speed_metrics
from .loss_window import LossWindow, step_loss

if TYPE_CHECKING:
    from .trainer import Trainer


class TrainerRun(Run):
    """A run whose loop is the Trainer's own."""

    def __init__(self, *given: Any, loaders: tuple[Any, Any], **fields: Any) -> None:
        super().__init__(*given, **fields)
        self._former_loaders = loaders
        self._window = cast(LossWindow, self._parts.window)
        self._losses: list[Tensor] = []

    def add_micro_batch(self, loss: Tensor) -> None:
        """Takes the share of the step's loss that a micro-batch gave."""
        self._window.add_micro_batch(loss)
        # The next micro-batch may write over it: the output of a CUDA graph stays where it is.
        self._losses.append(loss if loss.is_cpu or not self.accumulating else loss.clone())

    def loss_is_finite(self, grad_norm: Scalar | None) -> bool:
        """As `is_finite`, with the losses given before."""
        return self.is_finite(step_loss(self._losses), grad_norm=grad_norm)

    def end_optimizer_step(
        self, grad_norm: Number | None, learning_rate: Number, *, overflown: bool = False
    ) -> None:
        """As `end_step`, with the losses given before.

        Args:
            grad_norm: norm of the gradients before clipping.
            learning_rate: what the step used.
            overflown: the gradients were not finite, which the scaler has dealt with.
        """
        self._window.num_steps += 1
        if overflown:
            self._working.watch.leave_out("grad_norm")
        self._working.acting.learning_rate = learning_rate
        loss = step_loss(self._losses)
        self._losses.clear()
        self._close_step(loss, grad_norm)

    @property
    def metrics(self) -> MetricBuffer:
        """What scalars on a device leave it through."""
        return self._window.metrics

    @property
    def loaders(self) -> tuple[Any, Any]:
        """Those that were trained and evaluated on last, as callbacks are given them."""
        train, evaluation = self._former_loaders
        own = self._working.evaluating.loader
        own_train = self._train_loader
        return own_train if own_train is not None else train, own if own is not None else evaluation

    @property
    def trains(self) -> bool:
        """Whether it is a training, rather than a session of evaluations and logs."""
        return self._front_end.trains

    def announce(self, kind: str, values: dict[str, Any] | None = None) -> None:
        """Says what happened, to all who listen."""
        if kind == "evaluate":
            self._working.evaluating.announce((values or {})["metrics"])
        else:
            self._open_link().emit(kind, values or {})

    @property
    def has_rounds_to_come(self) -> bool:
        """Whether what is given to `log` will be logged: training has begun and has not ended."""
        return self._ending.unfinished

    def emit_histograms(self) -> None:
        """Says what was counted for `log_histogram`."""
        self._working.histograms.emit()

    def emit_log(self, logs: dict[str, Any]) -> None:
        """Adds a row to the history and says so."""
        self._working.acting.emit_log(logs)


class TrainerFrontEnd(FrontEnd):
    """What a run asks the Trainer."""

    announces_optimizer = True
    announces_itself = False
    lends_generator = False
    evaluates_neutrally = False
    rounds_epochs = False
    gives_learning_rate = True
    sees_groups = True
    counts_samples = False
    ends_by_schedule = True
    keeps_modes = False
    best_step_needs_saves = True

    def __init__(
        self,
        trainer: Trainer,
        ignore_keys: list[str] | None = None,
        *,
        trains: bool = True,
    ) -> None:
        super().__init__()
        self.trains = trains
        self._trainer = trainer
        self._ignore_keys = ignore_keys
        self.sees_flags_in_logs = trainer._logs_by_itself
        self.train_batch_size = trainer._train_batch_size
        self.num_train_samples = 0.0
        """Samples of the whole run."""
        self.num_items: Tensor | int | None = None
        """Items that the loss of the present step is normalised over."""

    @property
    def _metrics(self) -> MetricBuffer:
        return self.working.acting.window.metrics

    @property
    def evaluates(self) -> bool:
        """Whether there is something to evaluate."""
        return self._trainer.can_evaluate

    def evaluate(self) -> Mapping[str, Any]:
        """Calls the Trainer's `evaluate`, which logs and announces by itself."""
        trainer = self._trainer
        try:
            metrics = trainer.evaluate(ignore_keys=self._ignore_keys)
        except torch.OutOfMemoryError as error:
            if not trainer.args.auto_find_batch_size:
                raise
            raise RuntimeError(
                "The evaluation did not fit into memory, and auto_find_batch_size only makes the "
                "batches of the training smaller: lower per_device_eval_batch_size, which is "
                f"{trainer.args.per_device_eval_batch_size}."
            ) from error
        if not isinstance(metrics, Mapping):
            raise ArgumentError(
                f"evaluate() returned {metrics!r}: return a dict of metrics by name, as the "
                "overridden method does."
            )
        return metrics

    def evaluated(self, metrics: Mapping[str, Any]) -> None:
        """Moves a schedule that goes by a metric."""
        scheduler: Any = self._trainer.lr_scheduler
        if not self._trainer._scheduler_goes_by_metric:
            return
        name = f"eval_{str(self._trainer.args.metric_for_best_model).removeprefix('eval_')}"
        if name not in metrics:
            raise ArgumentError(
                f"reduce_lr_on_plateau goes by metric_for_best_model, which is {name!r}, and the "
                f"evaluation gave {', '.join(metrics)}: name one of these, or return it."
            )
        scheduler.step(metrics[name])

    def log(self, logs: dict[str, Any]) -> None:
        """Calls the Trainer's `log`; a subclass's own gets numbers, which may be waited for."""
        trainer = self._trainer
        trainer._counts.store_known()
        if trainer._logs_by_itself:
            # In place: what it writes into them stands in the closing metrics too.
            logs.update(self._metrics.waits.fill(logs, f"{type(trainer).__name__}.log"))
        if "train_runtime" in logs:
            trainer.log(logs)
        else:
            trainer.log(logs, trainer._started_s)

    def make_window(self) -> LossWindow:
        """A window that takes losses by micro-batches."""
        return LossWindow()

    def closing_figures(
        self, figures: dict[str, Any], *, seconds: float, steps: int, waited_s: float
    ) -> dict[str, Any]:
        """The reference's closing figures, rounded as there."""
        self._trainer._counts.store(self._metrics)
        state = self._trainer.state
        samples = self.num_train_samples * steps / max(state.max_steps, 1)
        own = {"train_samples_per_second", "train_steps_per_second", "total_flos", "train_loss"}
        rest = {name: value for name, value in figures.items() if name not in own}
        mean = cast(LossWindow, self.working.acting.window).mean_loss_of_run()
        # By the clock of the logs before, as the reference goes by one.
        elapsed_s = time.time() - self._trainer._started_s - waited_s
        closing = speed_metrics("train", elapsed_s, samples, steps)
        return rest | closing | {"total_flos": state.total_flos, "train_loss": mean}

    def group_loaded(self, group: list[Any]) -> None:
        """Counts what the loss of the step is normalised over."""
        trainer = self._trainer
        self.num_items = trainer._num_items_in_batch(group)
        trainer.current_gradient_accumulation_steps = len(group)

    def data_ended(self, epoch: int) -> str:
        """A training set that can be gone through only once ends the run, as in the reference."""
        return "the training data gave no further batch" if self._trainer.state.global_step else ""

    def about_to_save(self) -> None:
        """Brings the counts of the state up to date."""
        self._trainer._counts.store(self._metrics)

    def model_writer(self) -> Callable[[Path], None] | None:
        """The Trainer's `save_model`."""
        return lambda folder: self._trainer.save_model(str(folder), _internal_call=True)

    def stateful_callbacks(self) -> dict[str, Any]:
        """The states of the callbacks in the reference's form."""
        return self._trainer._callback_list.export()
