"""Which training arguments contradict one another."""

from __future__ import annotations

import warnings
from fractions import Fraction
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .errors import ArgumentError
from .strategies import IntervalStrategy, SaveStrategy, SchedulerType

if TYPE_CHECKING:
    from .arguments import TrainingArguments


_MIRRORED = MappingProxyType(
    {
        "gradient_checkpointing": "activation_checkpointing",
        "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
    }
)


def check_together(args: TrainingArguments) -> None:
    """Fills in what follows from other arguments and refuses contradictions.

    Raises:
        ArgumentError: two arguments that cannot both hold.
    """
    _mirror(args)
    _check_intervals(args)
    _check_best(args)
    _check_plateau(args)
    _check_precision(args)
    _check_loading(args)
    _fill_in(args)
    _fill_in_metric(args)


def _mirror(args: TrainingArguments) -> None:
    """Makes the older names of activation checkpointing equal to the newer ones.

    Of two that differ the newer wins when the object is made, as in the reference, where a copy
    names both; later the one that was assigned wins.
    """
    for old, new in _MIRRORED.items():
        last = f"_last_{new}"
        older, newer = getattr(args, old), getattr(args, new)
        if hasattr(args, last):
            value = older if newer == getattr(args, last) else newer
        else:
            value = newer if newer is not None or older is None else _as_new(old, new, older)
        if value is None and new == "activation_checkpointing":
            value = False
        for name in (old, new, last):
            setattr(args, name, value)


def _as_new(old: str, new: str, value: Any) -> Any:
    warnings.warn(f"{old} is the older name: write {new}.", FutureWarning, stacklevel=2)
    return value


def _check_intervals(args: TrainingArguments) -> None:
    if args.logging_strategy == IntervalStrategy.STEPS and args.logging_steps == 0:
        raise ArgumentError(
            "logging_steps is 0 with logging_strategy='steps': give the steps between logs, or "
            "logging_strategy='no'."
        )
    if args.save_strategy == SaveStrategy.STEPS and args.save_steps == 0:
        raise ArgumentError(
            "save_steps is 0 with save_strategy='steps': give the steps between checkpoints, or "
            "save_strategy='no'."
        )
    if args.eval_strategy == IntervalStrategy.STEPS and not args.eval_steps:
        if not args.logging_steps:
            raise ArgumentError(
                "eval_strategy='steps' needs eval_steps, or logging_steps to fall back to; both "
                f"are missing (eval_steps={args.eval_steps}, logging_steps={args.logging_steps})."
            )
        args.eval_steps = args.logging_steps


def _check_best(args: TrainingArguments) -> None:
    by_best = args.save_strategy == SaveStrategy.BEST
    if by_best and args.eval_strategy == IntervalStrategy.NO:
        raise ArgumentError(
            "save_strategy='best' saves after evaluations, but eval_strategy is 'no': set "
            "eval_strategy to 'steps' or 'epoch'."
        )
    if not args.load_best_model_at_end or by_best:
        return
    if args.eval_strategy == IntervalStrategy.NO and args.save_strategy == SaveStrategy.NO:
        raise ArgumentError(
            "load_best_model_at_end needs evaluations and checkpoints, but eval_strategy and "
            "save_strategy are both 'no': set both to 'steps' or 'epoch'."
        )
    if args.eval_strategy != args.save_strategy:
        raise ArgumentError(
            "load_best_model_at_end needs a checkpoint of each evaluated model, but "
            f"eval_strategy is '{args.eval_strategy}' and save_strategy is "
            f"'{args.save_strategy}': make them equal, or set save_strategy='best'."
        )
    if args.eval_strategy == IntervalStrategy.STEPS:
        _check_multiple(args.save_steps, args.eval_steps or 0)


def _check_multiple(save_steps: float, eval_steps: float) -> None:
    both = f"save_steps is {save_steps} and eval_steps is {eval_steps}"
    if (save_steps < 1) != (eval_steps < 1):
        raise ArgumentError(
            "load_best_model_at_end needs save_steps to be a round multiple of eval_steps, which "
            f"a part of the run and a count cannot promise: {both}; give both in the same way."
        )
    # The decimals as written: 0.3 is a round multiple of 0.1, though not in binary.
    if Fraction(repr(save_steps)) % Fraction(repr(eval_steps)) != 0:
        raise ArgumentError(
            f"load_best_model_at_end needs save_steps to be a round multiple of eval_steps, but "
            f"{both}."
        )


def _check_plateau(args: TrainingArguments) -> None:
    if (
        args.lr_scheduler_type == SchedulerType.REDUCE_ON_PLATEAU
        and args.eval_strategy == IntervalStrategy.NO
    ):
        raise ArgumentError(
            "lr_scheduler_type='reduce_lr_on_plateau' goes by the metric of evaluations, but "
            "eval_strategy is 'no': set eval_strategy to 'steps' or 'epoch'."
        )


def _check_precision(args: TrainingArguments) -> None:
    for one, other in (("fp16", "bf16"), ("fp16_full_eval", "bf16_full_eval")):
        if getattr(args, one) and getattr(args, other):
            raise ArgumentError(f"{one} and {other} are both True: choose one of them.")


def _check_loading(args: TrainingArguments) -> None:
    if args.dataloader_num_workers > 0:
        return
    without = "but dataloader_num_workers is 0: set it above 0, or leave this one out."
    if args.dataloader_prefetch_factor is not None:
        raise ArgumentError(
            f"dataloader_prefetch_factor is {args.dataloader_prefetch_factor}, {without}"
        )
    if args.dataloader_persistent_workers:
        raise ArgumentError(f"dataloader_persistent_workers is True, {without}")


def _fill_in(args: TrainingArguments) -> None:
    if args.eval_strategy != IntervalStrategy.NO:
        args.do_eval = True
    if args.torch_compile_backend is not None or args.torch_compile_mode is not None:
        args.torch_compile = True
    if args.torch_compile and args.torch_compile_backend is None:
        args.torch_compile_backend = "inductor"
    if args.use_cpu:
        args.dataloader_pin_memory = False


def _fill_in_metric(args: TrainingArguments) -> None:
    wants_best = (
        args.load_best_model_at_end
        or args.save_strategy == SaveStrategy.BEST
        or args.lr_scheduler_type == SchedulerType.REDUCE_ON_PLATEAU
    )
    if args.metric_for_best_model is None and wants_best:
        args.metric_for_best_model = "loss"
    if args.greater_is_better is None and args.metric_for_best_model is not None:
        args.greater_is_better = not args.metric_for_best_model.endswith("loss")
