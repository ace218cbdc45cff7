"""`train`: one training from its arguments to its result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ...bus.diagnostics import get_logger
from ...schemas import TrainerState
from ...schemas.errors import ArgumentError, StepbusError
from ..async_host import run_async
from ..data_order import num_batches
from ..hosting import OnCancel
from ..metric_buffer import DeferredScalar
from ..rng import enable_full_determinism, set_seed
from ..signals import StopSignals
from ..stepping import plan
from .batch_size import out_of_memory, saved_batch_size, smaller_batch
from .checks import check_trainer
from .columns import explain
from .counting import Counts
from .gathering import speed_metrics
from .model_setup import (
    align_special_tokens,
    call_model_init,
    compiled,
    enable_checkpointing,
    place,
)
from .precision import autocast_forward, compute_dtype, make_scaler
from .predictions import TrainOutput
from .sessions import Sessions
from .trainer_run import TrainerFrontEnd, TrainerRun
from .training_loop import TrainingLoop

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

log = get_logger()


class Training(TrainingLoop, Sessions):
    """`train` and what it is made of, for the `Trainer` to inherit."""

    train_dataset: Any
    model_init: Callable[..., nn.Module] | None
    get_train_dataloader: Callable[[], DataLoader[Any]]
    create_optimizer_and_scheduler: Callable[..., None]
    num_examples: Callable[[Any], int]
    label_names: list[str]
    _awaited: bool
    _started_s: float
    _train_batch_size: int
    _created_lr_scheduler: bool
    _new_counts: Callable[[], Counts]
    _learn_model: Callable[[], None]
    _end_workers: Callable[[Any], None]

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Trains to the end, or until it is stopped.

        Args:
            resume_from_checkpoint: a checkpoint's folder; True for the last one in the output
                folder.
            trial: not supported.
            ignore_keys_for_eval: outputs of the model that evaluations do not gather.

        Returns:
            Steps done, mean loss, and the closing metrics.

        Raises:
            ArgumentError: contradictory arguments, or a model that gives no loss.
            DataError: the training data is missing or empty.
            CheckpointError: there is nothing to resume from, or a checkpoint cannot be written.
            KeyboardInterrupt: after Ctrl-C, once all is saved.
            SystemExit: 143 after SIGTERM, once all is saved.
        """
        if trial is not None:
            raise ArgumentError(
                "train(trial=...) is not supported: stepbus searches no hyperparameters. Make one "
                "Trainer for each trial."
            )
        self.args.validate()
        self._device = self.args.device
        self._check_together()
        self._callback_list.check()
        self._renew_model()
        self.is_in_train = True
        try:
            with autocast_forward(self.model, self.args.device, compute_dtype(self.args)):
                return self._train_until_it_fits(resume_from_checkpoint, ignore_keys_for_eval)
        except KeyboardInterrupt as interrupt:
            self._tell_how_to_go_on(interrupt)
            raise
        finally:
            self.is_in_train = False

    async def train_async(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
        *,
        on_cancel: OnCancel = "stop",
        stop_timeout: float | None = None,
    ) -> TrainOutput:
        """As `train`, in a thread of its own, beside an event loop of asyncio or trio.

        No signal handlers are installed. A cancellation is a vote to stop: the training stops
        after its present step, and the cancellation goes on; see `run_async`.

        Args:
            resume_from_checkpoint, trial, ignore_keys_for_eval: as `train`.
            on_cancel: what a cancellation asks for: "stop", or "save" for a checkpoint before it.
            stop_timeout: how long a cancelled training has for its step, its checkpoint and its
                subscribers, s; `preemption_budget_s` of the arguments by default.

        Raises:
            StepbusError: this Trainer is training already.
            ArgumentError, DataError, CheckpointError: as `train`.
        """
        if self._awaited or self.is_in_train:
            raise StepbusError(
                "This Trainer is training already: await that training, or make another Trainer."
            )
        budget_s = float(self.args.preemption_budget_s)

        begun = False

        def train() -> TrainOutput:
            nonlocal begun
            begun = True
            try:
                return self.train(resume_from_checkpoint, trial, ignore_keys_for_eval)
            finally:
                # Here, since a thread that is left behind may train on.
                self._awaited = False

        self._awaited = True
        try:
            return await run_async(
                train,
                on_cancel=on_cancel,
                stop_timeout=budget_s if stop_timeout is None else stop_timeout,
                name=Path(self.args.output_dir).name,
            )
        finally:
            if not begun:
                self._awaited = False

    def _tell_how_to_go_on(self, interrupt: KeyboardInterrupt) -> None:
        """Adds to an interrupt where the training was saved, if it was."""
        name = f"checkpoint-{self.state.global_step}"
        for saved in self.summary.checkpoints if self.summary is not None else ():
            if Path(saved).name == name:
                interrupt.add_note(
                    f"Stopped and saved: train(resume_from_checkpoint={saved!r}) goes on."
                )

    def _check_together(self) -> None:
        """Refuses arguments that do not go with what the Trainer was given."""
        check_trainer(self._as_trainer())

    def _renew_model(self) -> None:
        args = self.args
        if self.model_init is not None:
            if args.full_determinism:
                enable_full_determinism(args.seed)
            else:
                set_seed(args.seed)
            self.model = place(call_model_init(self.model_init), args)
            self.optimizer = self.lr_scheduler = None
            self._learn_model()
        elif args.fp16_full_eval or args.bf16_full_eval:
            self.model.to(args.device)
        enable_checkpointing(self.model, args)
        align_special_tokens(self.model, self.processing_class)
        self.model_wrapped = compiled(self.model, args)

    def _train_until_it_fits(
        self, resume_from: str | bool | None, ignore_keys: list[str] | None
    ) -> TrainOutput:
        signals = StopSignals()
        if resume_from and self.args.auto_find_batch_size:
            found = saved_batch_size(resume_from, str(self.args.output_dir))
            self._train_batch_size = found or self._train_batch_size
        while True:
            try:
                return self._train_once(resume_from, ignore_keys, signals)
            except BatchTooLarge as error:
                # One that came before the batch that did not fit, and that no step has obeyed.
                signals.finish()
                self._train_batch_size = error.next_size

    def _train_once(
        self,
        resume_from: str | bool | None,
        ignore_keys: list[str] | None,
        signals: StopSignals,
    ) -> TrainOutput:
        args = self.args
        loader = self.get_train_dataloader()
        length = plan(args, loader)
        if self._created_lr_scheduler:
            self.lr_scheduler, self._created_lr_scheduler = None, False
        self.create_optimizer_and_scheduler(num_training_steps=length.max_steps)
        self._scaler = make_scaler(args, args.device)
        self.state = TrainerState()
        front_end = TrainerFrontEnd(self._as_trainer(), ignore_keys)
        front_end.num_train_samples = self._samples_of(loader, length.max_steps)
        run = self._make_run(
            front_end,
            identity=None if resume_from else self._next_identity(),
            signals=signals,
            resume_from=resume_from,
        )
        self._counts = self._new_counts()
        with contextlib.ExitStack() as stack:
            stack.callback(self._end_workers, loader)
            stack.enter_context(self._opened(run))
            if self._scaler is not None:
                run.attach("scaler", self._scaler)
            self._counts.tokens_before = self.state.num_input_tokens_seen
            self.state.stateful_callbacks = self._callback_list.export()
            self._started_s = time.time()
            self._train_next = "anew"
            self._run_loop(run, front_end, loader)
        assert self.summary is not None
        metrics = dict(self.summary.metrics)
        return TrainOutput(self.state.global_step, float(metrics["train_loss"]), metrics)

    def _run_loop(
        self, run: TrainerRun, front_end: TrainerFrontEnd, loader: DataLoader[Any]
    ) -> None:
        try:
            self._train(run, front_end, loader)
        except Exception as error:
            if not (self.args.auto_find_batch_size and out_of_memory(error)):
                explain(error, self.model, self.label_names)
                raise
            size = smaller_batch(self._train_batch_size, error)
            run.announce(
                "batch_size_retry",
                {
                    "from_batch_size": self._train_batch_size,
                    "to_batch_size": size,
                    "error": str(error),
                },
            )
            log.warning(
                f"a batch of {self._train_batch_size} did not fit into memory: training starts "
                f"again with {size}"
            )
            run.abandon()
            self._train_next = "again"
            raise BatchTooLarge(size) from error

    def compute_loss_context_manager(self) -> contextlib.AbstractContextManager[None]:
        """Nothing: precision is a matter of the model's forward."""
        return contextlib.nullcontext()

    def _samples_of(self, loader: DataLoader[Any], max_steps: int) -> float:
        args = self.args
        of_steps = max_steps * self._train_batch_size * args.gradient_accumulation_steps
        if args.max_steps > 0 or not num_batches(loader):
            return of_steps
        return self.num_examples(loader) * args.num_train_epochs

    def _add_progress(
        self, logs: dict[str, Any], start_time: float | None, run: TrainerRun
    ) -> None:
        """Adds the epoch, and the tokens where they are counted."""
        state = self.state
        logs["epoch"] = state.epoch
        if self.args.include_num_input_tokens_seen == "no":
            return
        tokens: float | DeferredScalar = state.num_input_tokens_seen
        if run.has_rounds_to_come and self._counts.on_device:
            tokens = self._counts.tokens(run.metrics)
        logs["num_input_tokens_seen"] = tokens
        if start_time is None:
            return
        seconds, before = time.time() - start_time, self._counts.tokens_before
        logs.update(speed_metrics("train", seconds))
        if seconds:
            logs["train_tokens_per_second"] = _speed(tokens, before, seconds)


def _speed(tokens: float | DeferredScalar, before: int, seconds: float) -> Any:
    if isinstance(tokens, DeferredScalar):
        return tokens.then(lambda number: _speed(number, before, seconds))
    return speed_metrics("", seconds, num_tokens=int(tokens) - before)["_tokens_per_second"]


class BatchTooLarge(BaseException):
    """A batch did not fit into memory; training starts again with a smaller one."""

    def __init__(self, next_size: int) -> None:
        super().__init__(next_size)
        self.next_size = next_size
