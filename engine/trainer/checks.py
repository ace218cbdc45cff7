"""What does not go together in a Trainer; found before anything is written or loaded."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset

from ...bus.diagnostics import get_logger
from ...schemas.errors import ArgumentError, DataError
from ..data_order import num_batches

if TYPE_CHECKING:
    from .trainer import Trainer

log = get_logger()


def check_trainer(trainer: Trainer) -> None:
    """Refuses contradictions between the arguments and what the Trainer was given.

    Raises:
        ArgumentError: each by name, with what to do.
        DataError: a data set is empty.
    """
    _check_evaluation(trainer)
    _check_data(trainer)


def _check_evaluation(trainer: Trainer) -> None:
    args = trainer.args
    if args.eval_strategy != "no" and not trainer.can_evaluate:
        raise ArgumentError(
            f"eval_strategy is {str(args.eval_strategy)!r} and there is no eval_dataset: give one, "
            "or eval_strategy='no'."
        )
    if args.eval_on_start and not trainer.can_evaluate:
        raise ArgumentError(
            "eval_on_start is True and there is no eval_dataset: give one, or leave it out."
        )
    metrics = trainer.compute_metrics
    if metrics is None:
        return
    if not callable(metrics):
        raise ArgumentError(
            f"compute_metrics is {metrics!r}: give a function that takes an EvalPrediction and "
            "returns a dict."
        )
    if args.batch_eval_metrics and "compute_result" not in inspect.signature(metrics).parameters:
        raise ArgumentError(
            "batch_eval_metrics=True calls compute_metrics(prediction, compute_result=...) after "
            "each batch, and yours takes no compute_result: add it."
        )


def _check_data(trainer: Trainer) -> None:
    if not callable(trainer.data_collator):
        raise ArgumentError(
            f"data_collator is {trainer.data_collator!r}: give a function that makes a batch of a "
            "list of samples."
        )
    dataset = trainer.train_dataset
    if dataset is None:
        return
    length = num_batches(dataset)
    if length is None and trainer.args.max_steps <= 0:
        raise ArgumentError(
            f"train_dataset ({type(dataset).__name__}) has no length, so the number of steps is "
            "unknown: set max_steps."
        )
    if length == 0 and not isinstance(dataset, IterableDataset):
        raise DataError("train_dataset is empty: there is nothing to train on.")


def check_optimizers(model_init: Any, optimizers: Any, class_and_kwargs: Any) -> tuple[Any, Any]:
    """The optimizer and the scheduler that were given.

    Raises:
        ArgumentError: not a pair, given for a model that is not made yet, or given twice.
    """
    if not isinstance(optimizers, tuple | list) or len(optimizers) != 2:
        raise ArgumentError(
            f"optimizers is {optimizers!r}: give a pair, (optimizer, scheduler), with None for "
            "what the arguments are to make."
        )
    if class_and_kwargs is not None and optimizers[0] is not None:
        raise ArgumentError(
            "Trainer got optimizers and optimizer_cls_and_kwargs: give one of them."
        )
    if model_init is not None and any(part is not None for part in optimizers):
        raise ArgumentError(
            "Trainer got a model_init and optimizers, whose parameters would be those of another "
            "model: override create_optimizer instead, or give optimizer_cls_and_kwargs."
        )
    return optimizers[0], optimizers[1]
