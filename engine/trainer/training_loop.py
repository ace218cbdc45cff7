"""The Trainer's loop: forward, backward, clip, step, and what a step announces."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ...schemas import TrainerState, TrainingArguments
from ...schemas.errors import ArgumentError, DataError
from ..data_order import move
from ..metric_buffer import as_now
from .counting import Counts
from .overrides import without_items
from .trainer_run import TrainerFrontEnd, TrainerRun

if TYPE_CHECKING:
    from torch.utils.data import DataLoader


_MODE = operator.attrgetter("training")


class TrainingLoop:
    """`training_step` and the loop around it, for the `Trainer` to inherit."""

    loss_is_scaled_for_ga: bool | None = None
    """Whether `compute_loss` gives a loss that is divided for accumulation already; None goes by
    whether the model, or `compute_loss_func`, takes `num_items_in_batch`."""

    args: TrainingArguments
    _device: torch.device
    model: nn.Module
    model_wrapped: nn.Module
    optimizer: Any
    lr_scheduler: Any
    state: TrainerState
    _counts: Counts
    compute_loss_func: Callable[..., Any] | None
    model_accepts_loss_kwargs: bool
    current_gradient_accumulation_steps: int
    _scaler: torch.amp.GradScaler | None
    _scale: float = 0.0
    """Its scale after the last step."""
    _submodules: Sequence[nn.Module] = ()
    compute_loss: Callable[..., Any]
    _takes_items: object = None
    """The function behind `compute_loss`, once it is known to take `num_items_in_batch`."""
    _get_learning_rate: Callable[[], float]

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Trains on one micro-batch: forward and backward.

        Args:
            model: what to call.
            inputs: the model's arguments by name.
            num_items_in_batch: what the loss of the whole step is normalised over.

        Returns:
            The micro-batch's share of the step's loss, detached, on the device.

        Raises:
            ArgumentError: the loss cannot be trained on.
        """
        if not (model.training and all(map(_MODE, self._submodules))):
            model.train()
        # Schedule-free optimizers have two modes as well; an evaluation leaves them in the other.
        to_training = getattr(self.optimizer, "train", None)
        if callable(to_training):
            to_training()
        inputs = self._prepare_inputs(inputs)
        compute_loss = self.compute_loss
        function = getattr(compute_loss, "__func__", compute_loss)
        if function is not self._takes_items:
            given, compute_loss = compute_loss, without_items(compute_loss, "compute_loss")
            if compute_loss is given:
                self._takes_items = function
        loss = compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
        if not (isinstance(loss, Tensor) and loss.requires_grad):
            raise _untrainable(loss, self.model)
        del inputs
        if self.args.torch_empty_cache_steps is not None:
            self._empty_cache()
        steps = self.current_gradient_accumulation_steps
        if steps > 1 and not self._loss_is_scaled(num_items_in_batch):
            loss = loss / steps
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _loss_is_scaled(self, num_items: Any) -> bool:
        if self.loss_is_scaled_for_ga is not None:
            return self.loss_is_scaled_for_ga
        by_model = self.model_accepts_loss_kwargs and num_items is not None
        return by_model or self.compute_loss_func is not None

    def _empty_cache(self) -> None:
        every = self.args.torch_empty_cache_steps
        if every and self.state.global_step % every:
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        elif torch.backends.mps.is_available():
            torch.mps.empty_cache()

    def _prepare_inputs(self, inputs: Any) -> Any:
        """The batch on the device.

        Raises:
            DataError: it is empty.
        """
        if not len(inputs):
            raise DataError(
                "A batch is empty: none of the data's columns is an argument of the model's "
                "forward. Name them as the forward does, or set remove_unused_columns=False."
            )
        moved = move(inputs, self._device)
        # The loss may take labels out of it, which whoever gave the batch still has in theirs.
        return dict(moved) if moved is inputs and type(inputs) is dict else moved

    def _train(self, run: TrainerRun, front_end: TrainerFrontEnd, loader: DataLoader[Any]) -> None:
        """Trains for the length of an open run."""
        args, counts = self.args, self._counts
        model, optimizer, scheduler = self.model_wrapped, self.optimizer, self.lr_scheduler
        by_metric = self._scheduler_goes_by_metric
        counting, strict = counts.active, args.nan_policy == "strict"
        training_step = without_items(self.training_step, "training_step")
        parameters, self._submodules = list(self.model.parameters()), list(self.model.modules())
        for parameter in parameters:
            parameter.grad = None
        self._scale = self._scaler.get_scale() if self._scaler is not None else 0.0
        batches = run.steps(loader)
        before, after = run.link.emitters["pre_optimizer_step"], run.link.emitters["optimizer_step"]
        for inputs in batches:
            run.add_micro_batch(training_step(model, inputs, front_end.num_items))
            if counting:
                counts.add(inputs)
            if run.accumulating:
                continue
            if self._scaler is not None:
                self._scaler.unscale_(optimizer)
            grad_norm = _clip(parameters, args.max_grad_norm)
            if strict and not run.loss_is_finite(None if self._scaler else grad_norm):
                stepped = self._leave_step_out()
            else:
                if before.active:
                    run.link.fire(before)
                stepped = self._step_optimizer(run)
                if after.active:
                    run.link.fire(after)
            learning_rate = self._get_learning_rate() if by_metric else scheduler.get_last_lr()[0]
            if type(learning_rate) is not float:
                learning_rate = as_now(learning_rate)
            if stepped and not by_metric:
                scheduler.step()
            for parameter in parameters:
                parameter.grad = None
            run.end_optimizer_step(grad_norm, learning_rate, overflown=not stepped)

    @property
    def _scheduler_goes_by_metric(self) -> bool:
        """Whether the schedule moves after evaluations rather than after steps."""
        return isinstance(self.lr_scheduler, ReduceLROnPlateau)

    def _leave_step_out(self) -> bool:
        """Has the weights stay what they are: the loss is not finite; False, as nothing stepped."""
        if self._scaler is not None:
            # It has unscaled the gradients, and will not do so again before it is told.
            self._scaler.update()
            self._scale = self._scaler.get_scale()
        return False

    def _step_optimizer(self, run: TrainerRun) -> bool:
        """Steps the optimizer; False where the scaler skipped it, since gradients had overflown."""
        if self._scaler is None:
            self.optimizer.step()
            return True
        self._scaler.step(self.optimizer)
        self._scaler.update()
        # One read of the device a step, as fp16 costs it elsewhere too.
        former, self._scale = self._scale, self._scaler.get_scale()
        if self._scale >= former:
            return True
        run.announce("optimizer_step_skipped", {"loss_scale": former})
        return False


def _clip(parameters: list[nn.Parameter], max_norm: float) -> Tensor:
    """Clips the gradients; their norm before that."""
    if max_norm > 0:
        return clip_grad_norm_(parameters, max_norm)
    return get_total_norm([p.grad for p in parameters if p.grad is not None])


def _untrainable(loss: object, model: nn.Module) -> ArgumentError:
    if not isinstance(loss, Tensor):
        return ArgumentError(
            f"compute_loss gave {loss!r}: return a tensor with one value, the loss."
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return ArgumentError(
            f"{type(model).__name__} has no parameter that requires a gradient: there is nothing "
            "to train. Unfreeze some, or add an adapter."
        )
    return ArgumentError(
        "The loss has no gradient: it was detached, or computed under torch.no_grad(). Return it "
        "as the model gave it."
    )
