"""Which training arguments contradict one another."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from .errors import ArgumentError
from .strategies import IntervalStrategy, SaveStrategy

if TYPE_CHECKING:
    from .arguments import TrainingArguments


def check_together(args: TrainingArguments) -> None:
    """Fills in what follows from other arguments and refuses contradictions.

    Raises:
        ArgumentError: two arguments that cannot both hold.
    """
    _check_intervals(args)
    _check_best(args)
    _fill_in_metric(args)


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


def _fill_in_metric(args: TrainingArguments) -> None:
    wants_best = args.load_best_model_at_end or args.save_strategy == SaveStrategy.BEST
    if args.metric_for_best_model is None and wants_best:
        args.metric_for_best_model = "loss"
    if args.greater_is_better is None and args.metric_for_best_model is not None:
        args.greater_is_better = not args.metric_for_best_model.endswith("loss")
