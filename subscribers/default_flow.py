"""The schedule: when a run logs, evaluates, saves and ends by its arguments."""

from __future__ import annotations

from typing import Any, ClassVar

from ..bus.idling import Due
from ..bus.subscriber import TrainerCallback
from ..schemas import TrainerControl, TrainerState


class DefaultFlowCallback(TrainerCallback):
    """Sets the flags of the control as the strategies and intervals of the arguments say.

    Strategies and `eval_delay` are read from the arguments, intervals from the state, where a
    ratio has become an absolute count of steps.
    """

    changes_nothing: ClassVar[bool] = True
    is_schedule: ClassVar[bool] = True
    """Its flags are the schedule, no votes: they make no verdicts."""

    def on_step_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Logs, evaluates and saves at multiples of the intervals; ends the run at max_steps."""
        step = state.global_step
        last = step >= state.max_steps
        if args.logging_strategy == "steps" and _due(step, state.logging_steps):
            control.should_log = True
        if args.logging_first_step and step == 1:
            control.should_log = True
        may_evaluate = args.eval_strategy == "steps" and args.eval_delay <= step
        if may_evaluate and (last or _due(step, state.eval_steps)):
            control.should_evaluate = True
        if args.save_strategy == "steps" and (last or _due(step, state.save_steps)):
            control.should_save = True
        if last:
            control.should_training_stop = True
        return control

    def next_due(self, args: Any, state: TrainerState) -> Due:
        """When it sets flags next: before that it need not be called."""
        step, log_steps = state.global_step, state.logging_steps
        other = max(state.max_steps, step + 1)
        for strategy, interval in (
            (args.eval_strategy, state.eval_steps),
            (args.save_strategy, state.save_steps),
        ):
            if strategy == "steps" and interval > 0:
                other = min(other, (step // interval + 1) * interval)
        if args.logging_first_step and step < 1:
            return Due(1, 0, other)
        if args.logging_strategy == "steps" and log_steps > 0:
            return Due((step // log_steps + 1) * log_steps, log_steps, other)
        return Due(other, 0, other)

    def on_epoch_end(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Logs, evaluates and saves by the epoch."""
        if args.logging_strategy == "epoch":
            control.should_log = True
        if args.eval_strategy == "epoch" and args.eval_delay <= state.epoch:
            control.should_evaluate = True
        if args.save_strategy == "epoch":
            control.should_save = True
        return control


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0
