"""`Trainer`: the whole loop, with the reference's constructor, methods and behaviour."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from ...bus import EventBus
from ...schemas import TrainerState, TrainingArguments
from ...schemas.errors import ArgumentError
from ..artifacts import LogsArtifacts
from ..artifacts.draft import Draft
from ..callback_list import Callback, CallbackList
from ..checkpoint import check_writable
from ..environment import refuse_several_ranks
from ..rng import enable_full_determinism, set_seed
from .callback_handler import CallbackHandler
from .checks import check_optimizers
from .collators import default_collator_for
from .columns import base_model, can_return_loss, find_label_names
from .counting import Counts, floating_point_ops
from .evaluation import TrainerEvaluation
from .gathering import denumpify
from .hub_pushing import HubPushing
from .loaders import TrainerData
from .losses import TrainerLoss, accepts_loss_kwargs, loss_shifts_labels
from .metric_files import TrainerMetricFiles
from .model_saving import ModelSaving
from .model_setup import choose_model, make_label_smoother, place
from .optimizers import TrainerOptimization
from .overrides import is_overridden, missing, refuse_overrides, refuse_taken_names
from .precision import apply_tf32, check_precision
from .sessions import Sessions
from .trainer_run import TrainerRun
from .training import Training


class Trainer(
    TrainerLoss,
    TrainerData,
    TrainerOptimization,
    Training,
    Sessions,
    TrainerEvaluation,
    TrainerMetricFiles,
    HubPushing,
    ModelSaving,
    LogsArtifacts,
):
    """Trains, evaluates and predicts, as the reference's `Trainer` does, around a bus.

    Arguments, methods and what may be overridden are the reference's. Callbacks of Hugging Face's
    shape run on the training thread, in their order; subscribers of `trainer.bus` run beside it.

    Args:
        model: what to train; a module that returns its loss, as a dict, a tuple or an output of
            transformers.
        args: what the training obeys; with `output_dir="tmp_trainer"` by default.
        data_collator: makes a batch of samples; by default it pads with `processing_class`, or
            stacks.
        train_dataset: what to train on: with or without a length.
        eval_dataset: what to evaluate on: one, or several by name.
        processing_class: tokenizer or processor; saved with the model.
        model_init: makes the model, anew for each `train()`, instead of `model`.
        compute_loss_func: takes outputs, labels and num_items_in_batch and gives the loss.
        compute_metrics: takes an `EvalPrediction` and gives metrics by name.
        callbacks: `TrainerCallback`s and `Subscriber`s, as classes or instances.
        optimizers: an optimizer and a scheduler; what is None is made by the arguments.
        optimizer_cls_and_kwargs: an optimizer's class and arguments, instead of `optim`.
        preprocess_logits_for_metrics: takes logits and labels of a batch and gives what to keep.
        bus: where events go; one of its own by default. A bus that is not running is started and
            stopped by each training.
        tokenizer: the former name of `processing_class`.

    Raises:
        ArgumentError: arguments that contradict each other or ask for what this machine or this
            engine has not, a folder that cannot be written, an overridden method that would never
            be called; before anything is written.
        DataError: there is no training data.
        DeliveryError: a tracker that was named is broken.
    """

    def __init__(
        self,
        model: nn.Module | None = None,
        args: TrainingArguments | None = None,
        data_collator: Callable[[list[Any]], Any] | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        model_init: Callable[..., nn.Module] | None = None,
        compute_loss_func: Callable[..., Any] | None = None,
        compute_metrics: Callable[..., Any] | None = None,
        callbacks: Iterable[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None = None,
        *,
        bus: EventBus | None = None,
        tokenizer: Any = None,
    ) -> None:
        given_before = frozenset(vars(self))
        super().__init__()
        refuse_overrides(type(self), Trainer.__mro__)
        refuse_several_ranks()
        self.args = _checked(args)
        if tokenizer is not None:
            processing_class = _former_tokenizer(tokenizer, processing_class)
        _seed(self.args)
        _set_log_level(self.args)
        self._device: torch.device = self.args.device
        check_precision(self.args, self._device)
        apply_tf32(self.args, self._device)

        self.optimizer, self.lr_scheduler = check_optimizers(
            model_init, optimizers, optimizer_cls_and_kwargs
        )
        self.model_init = model_init
        self.model = place(choose_model(model, model_init), self.args)
        self.model_wrapped: nn.Module = self.model
        self.processing_class = processing_class
        self.data_collator = data_collator or default_collator_for(processing_class)
        self.train_dataset = train_dataset
        self.eval_dataset = eval_dataset
        self.compute_loss_func = compute_loss_func
        self.compute_metrics = compute_metrics
        self.preprocess_logits_for_metrics = preprocess_logits_for_metrics
        self.optimizer_cls_and_kwargs = optimizer_cls_and_kwargs
        self._learn_model()
        self._check_together()

        self.state = TrainerState()
        self.is_in_train = False
        self.hub_model_id: str | None = None
        self._awaited = False
        self.current_gradient_accumulation_steps = 1
        self._scaler = None
        self._submodules = list(self.model.modules())
        self._started_s = 0.0
        self._train_batch_size = self.args.train_batch_size
        self._created_lr_scheduler = False

        self.bus = bus if bus is not None else EventBus(drain_timeout=self.args.drain_timeout_s)
        self._callback_list = CallbackList(self.args, callbacks or (), at_end=False)
        self._callback_list.add_display()
        self.callback_handler = CallbackHandler(self._callback_list, self)
        refuse_taken_names(self, Trainer.__mro__, given_before)
        check_writable(self.args.output_dir)
        if self.args.push_to_hub:
            self._connect_to_hub()
        self._announce_set_up()
        config = getattr(self.model, "config", None)
        if config is not None:
            config.use_cache = self.args.use_cache

    def _learn_model(self) -> None:
        """What the model's forward tells of labels and losses."""
        args, inner = self.args, base_model(self.model)
        self.model_accepts_loss_kwargs = accepts_loss_kwargs(self.model)
        self._loss_shifts_labels = loss_shifts_labels(self.model)
        names = args.label_names
        self.label_names = find_label_names(type(inner)) if names is None else list(names)
        self.can_return_loss = can_return_loss(type(inner))
        self.label_smoother = make_label_smoother(self.model, args)

    def _new_counts(self) -> Counts:
        pad = getattr(self.processing_class, "pad_token_id", None)
        tokens = str(self.args.include_num_input_tokens_seen)
        return Counts(self.model, self.state, tokens, pad)

    # Callbacks

    def add_callback(self, callback: Any) -> Callback:
        """Adds a `TrainerCallback` or a `Subscriber`, as a class or an instance, at the end."""
        return self._callback_list.add(callback)

    def pop_callback(self, callback: Any) -> Callback | None:
        """Removes and returns the first callback of a class, or the one given; None without it."""
        return self._callback_list.pop(callback)

    def remove_callback(self, callback: Any) -> None:
        """Removes the first callback of a class, or the one given.

        Raises:
            ArgumentError: an instance that is not among the callbacks.
        """
        self._callback_list.remove(callback)

    # Logs and facts

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Logs values: a row of the history and a `log` event; all logs come through here.

        From `compute_loss`, a callback or after training. While training goes on, a dict with
        tensors waits for the next log round instead, which it joins as means over the steps since
        the last.

        Args:
            logs: the values by name; `epoch` is added.
            start_time: when training began, in seconds since 1970; adds the speed in tokens.
        """
        run = self._run
        if run is not None:
            self._log_in(run, logs, start_time)
        else:
            with self._session("log") as run:
                self._log_in(run, logs, start_time)

    def _log_in(self, run: TrainerRun, logs: dict[str, Any], start_time: float | None) -> None:
        others = [value for value in logs.values() if type(value) is not float]
        if others:
            if run.has_rounds_to_come and any(isinstance(v, torch.Tensor) for v in others):
                run.log(logs)
                return
            # As plain numbers: JSON, in which the history is kept, knows no others.
            logs.update(denumpify(logs))
        self._add_progress(logs, start_time, run)
        run.emit_log(logs)

    def log_histogram(self, name: str, values: Any) -> None:
        """Counts how the values of a tensor are spread, for a `histogram` event.

        From `compute_loss` or a callback; they are counted on their device, and the event comes
        after the step. Outside of training it comes at once.

        Args:
            name: the event's `tag`, `weights/head` for one.
            values: a tensor of any shape, or what `torch.as_tensor` makes one of.

        Raises:
            ArgumentError: complex values, or no numbers.
        """
        with self._session("log") as run:
            run.log_histogram(name, values)
            if not run.has_rounds_to_come:
                run.emit_histograms()

    def _log_artifact(self, draft: Draft) -> None:
        with self._session("log") as run:
            run._log_artifact(draft)

    @property
    def _logs_by_itself(self) -> bool:
        """Whether a subclass, or an instance, has a `log` of its own, which is given numbers."""
        return is_overridden(self, Trainer, "log")

    def floating_point_ops(self, inputs: Mapping[str, Any]) -> int:
        """Operations of a forward and backward pass over a batch; 0 where it cannot be told."""
        return floating_point_ops(self.model, inputs)

    def is_local_process_zero(self) -> bool:
        """Whether this is the first process of this machine: always."""
        return bool(self.args.local_process_index == 0)

    def is_world_process_zero(self) -> bool:
        """Whether this is the first process of the run: always."""
        return bool(self.args.process_index == 0)

    @property
    def tokenizer(self) -> Any:
        """The former name of `processing_class`."""
        return self.processing_class

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self.processing_class = tokenizer

    @property
    def can_evaluate(self) -> bool:
        """Whether an evaluation that is voted for has anything to go through."""
        own = ("evaluate", "get_eval_dataloader")
        return self.eval_dataset is not None or any(is_overridden(self, Trainer, n) for n in own)

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):
            # It is there, a property of a subclass for one, and says itself why it failed.
            return object.__getattribute__(self, name)
        raise missing(name)


def _checked(args: TrainingArguments | None) -> TrainingArguments:
    if args is None:
        return TrainingArguments("tmp_trainer")
    if not isinstance(args, TrainingArguments):
        kind = f"{type(args).__module__}.{type(args).__name__}"
        raise ArgumentError(
            f"args is a {kind}: give stepbus's TrainingArguments, which takes the same arguments "
            "(from stepbus import TrainingArguments)."
        )
    args.validate()
    return args


def _former_tokenizer(tokenizer: Any, processing_class: Any) -> Any:
    warnings.warn(
        "Trainer(tokenizer=...) is now called processing_class.", FutureWarning, stacklevel=3
    )
    if processing_class is not None and processing_class is not tokenizer:
        raise ArgumentError("Trainer got a tokenizer and another processing_class: give one.")
    return tokenizer


def _seed(args: TrainingArguments) -> None:
    if args.full_determinism:
        enable_full_determinism(args.seed)
    else:
        set_seed(args.seed)


def _set_log_level(args: TrainingArguments) -> None:
    if args.log_level == "passive":
        return
    for name in ("stepbus", "transformers"):
        if name in sys.modules:
            logging.getLogger(name).setLevel(args.get_process_log_level())
