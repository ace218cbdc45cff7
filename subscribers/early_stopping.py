"""Stops a run whose metric no longer improves."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ..bus.diagnostics import get_logger
from ..bus.subscriber import TrainerCallback
from ..schemas import TrainerControl, TrainerState
from ..schemas.errors import ArgumentError

log = get_logger()


class EarlyStoppingCallback(TrainerCallback):
    """Stops training after `early_stopping_patience` evaluations in a row without improvement.

    An evaluation is an improvement when `metric_for_best_model` is better, by more than
    `early_stopping_threshold`, than it was at the last improvement; the first one always is. Gains
    below the threshold therefore add up: 1.00, 0.98, 0.96 under a threshold of 0.03 is one failure
    and then an improvement. NaN is never better.

    With `count_slow_gains_as_failures` the comparison is with `state.best_metric`, as in the
    reference, which every gain moves, however small: gains that stay below the threshold are then
    failures however long they go on, 1.00, 0.98, 0.96 is two of them.

    Args:
        early_stopping_patience: failures in a row that end the run, at least 1.
        early_stopping_threshold: by how much an improvement must be better, at least 0.
        count_slow_gains_as_failures: as the reference does.

    Raises:
        ArgumentError: a patience or threshold out of bounds.
    """

    changes_nothing: ClassVar[bool] = True

    def __init__(
        self,
        early_stopping_patience: int = 1,
        early_stopping_threshold: float | None = 0.0,
        *,
        count_slow_gains_as_failures: bool = False,
    ) -> None:
        if isinstance(early_stopping_patience, bool) or not (
            isinstance(early_stopping_patience, int) and early_stopping_patience >= 1
        ):
            raise ArgumentError(
                f"early_stopping_patience={early_stopping_patience!r}: give a whole number of "
                "evaluations, at least 1."
            )
        threshold = 0.0 if early_stopping_threshold is None else early_stopping_threshold
        if not 0 <= threshold < math.inf:
            raise ArgumentError(
                f"early_stopping_threshold={threshold!r}: give a number of at least 0."
            )
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = threshold
        self.count_slow_gains_as_failures = count_slow_gains_as_failures
        self.early_stopping_patience_counter = 0
        self.reason = ""
        """Why the run was stopped, in a sentence; empty until then."""
        self._improved_at: float | None = None
        self._restored = False
        self._missing_named = False

    def check(self, args: Any) -> None:
        """Checks, before the first step, that the run evaluates the metric to be watched.

        Raises:
            ArgumentError: `metric_for_best_model` or an evaluation strategy is missing.
        """
        if getattr(args, "metric_for_best_model", None) is None:
            raise ArgumentError(
                "EarlyStoppingCallback needs metric_for_best_model, which is None: name the metric "
                "to watch, such as metric_for_best_model='loss'."
            )
        if args.eval_strategy == "no":
            raise ArgumentError(
                "EarlyStoppingCallback needs evaluations, but eval_strategy is 'no': set it to "
                "'steps' or 'epoch'."
            )

    def on_train_begin(
        self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts counting anew, unless a checkpoint gave back what it had counted."""
        self.check(args)
        if not args.load_best_model_at_end:
            log.warning(
                "EarlyStoppingCallback without load_best_model_at_end: when training ends the "
                "model is that of the last step, not the best one."
            )
        if not self._restored:
            self.early_stopping_patience_counter = 0
            self._improved_at = state.best_metric
        self._restored = self._missing_named = False
        self.reason = ""

    def on_evaluate(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Compares the metric; to be called before `state.best_metric` takes it in."""
        name = f"eval_{args.metric_for_best_model.removeprefix('eval_')}"
        value = (metrics or {}).get(name)
        if value is None:
            self._name_missing(name)
            return
        greater = args.greater_is_better
        if greater is None:
            greater = not name.endswith("loss")
        self._count(float(value), state.best_metric, bool(greater))
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            self.reason = (
                f"{name} has not improved by more than {self.early_stopping_threshold} in "
                f"{self.early_stopping_patience_counter} evaluations"
            )
            control.should_training_stop = True

    def _count(self, value: float, best: float | None, greater: bool) -> None:
        former = best if self.count_slow_gains_as_failures else self._improved_at
        gain = math.inf if former is None else (value - former) * (1 if greater else -1)
        if gain > self.early_stopping_threshold:
            self.early_stopping_patience_counter = 0
            worst = -math.inf if greater else math.inf
            self._improved_at = worst if math.isnan(value) else value
        else:
            self.early_stopping_patience_counter += 1

    def _name_missing(self, name: str) -> None:
        if not self._missing_named:
            self._missing_named = True
            log.warning(
                f"EarlyStoppingCallback watches {name}, which an evaluation did not give: nothing "
                "was checked."
            )

    def state(self) -> dict[str, Any]:
        """What `trainer_state.json` keeps of it, in the reference's form."""
        return {
            "args": {
                "early_stopping_patience": self.early_stopping_patience,
                "early_stopping_threshold": self.early_stopping_threshold,
            },
            "attributes": {
                "early_stopping_patience_counter": self.early_stopping_patience_counter,
            },
        }

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: failures so far, and the value at the last improvement."""
        return {
            "early_stopping_patience_counter": self.early_stopping_patience_counter,
            "improved_at": self._improved_at,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self.early_stopping_patience_counter = int(state["early_stopping_patience_counter"])
        self._improved_at = state["improved_at"]
        self._restored = True
