"""When a run is stopped for want of improvement."""

from __future__ import annotations

import json
import logging
import math
from importlib import import_module
from typing import Any

import pytest

from stepbus.schemas import ArgumentError, TrainerControl, TrainerState, TrainingArguments
from stepbus.subscribers import EarlyStoppingCallback


def arguments(**args: Any) -> TrainingArguments:
    chosen = {
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_steps": 1,
        "metric_for_best_model": "loss",
        "load_best_model_at_end": True,
    }
    return TrainingArguments("out", **{**chosen, **args})


class Evaluations:
    """Evaluates as the engine does: the callback first, then the best metric."""

    def __init__(self, callback: EarlyStoppingCallback, **args: Any) -> None:
        self.callback = callback
        self.args = arguments(**args)
        self.state = TrainerState()
        self.control = TrainerControl()
        callback.on_train_begin(self.args, self.state, self.control)

    def stops(self, value: float) -> bool:
        name = str(self.args.metric_for_best_model)
        name = name if name.startswith("eval_") else f"eval_{name}"
        self.callback.on_evaluate(self.args, self.state, self.control, metrics={name: value})
        best, greater = self.state.best_metric, self.args.greater_is_better
        if best is None:
            best = -math.inf if greater else math.inf
        self.state.best_metric = value if (value > best if greater else value < best) else best
        return self.control.should_training_stop

    def stop_at(self, values: list[float]) -> int | None:
        return next((i for i, value in enumerate(values, 1) if self.stops(value)), None)


@pytest.mark.parametrize("quirk", [False, True])
@pytest.mark.parametrize(
    ("patience", "threshold", "values", "stopped_at"),
    [
        (1, 0.0, [3.0, 2.0, 1.0], None),
        (1, 0.0, [3.0, 3.0], 2),
        (1, 0.0, [3.0, 2.0, 2.5], 3),
        (2, 0.0, [3.0, 3.1, 2.9, 3.0, 2.8, 3.0, 3.0], 7),
        (3, 0.0, [1.0, 2.0, 2.0, 2.0], 4),
        (1, 0.5, [3.0, 2.6], 2),
        (1, 0.5, [3.0, 2.5], 2),
        (1, 0.5, [3.0, 2.4], None),
        (2, 0.0, [math.nan, math.nan, math.nan], 3),
        (2, 0.0, [math.nan, 1.0, math.nan, 0.5], None),
    ],
)
def test_failures_in_a_row_stop_the_run(
    quirk: bool, patience: int, threshold: float, values: list[float], stopped_at: int | None
) -> None:
    callback = EarlyStoppingCallback(patience, threshold, count_slow_gains_as_failures=quirk)
    assert Evaluations(callback).stop_at(values) == stopped_at


def test_greater_is_better_turns_the_comparison_around() -> None:
    callback = EarlyStoppingCallback(1)
    assert (
        Evaluations(callback, metric_for_best_model="eval_accuracy").stop_at([0.1, 0.2, 0.2]) == 3
    )


def test_gains_below_the_threshold_add_up() -> None:
    slow = [1.0 - 0.06 * n for n in range(14)]
    assert Evaluations(EarlyStoppingCallback(3, 0.1)).stop_at(slow) is None


def test_gains_below_the_threshold_are_failures_where_the_reference_is_asked_for() -> None:
    slow = [1.0 - 0.06 * n for n in range(14)]
    callback = EarlyStoppingCallback(3, 0.1, count_slow_gains_as_failures=True)
    assert Evaluations(callback).stop_at(slow) == 4


def test_gains_that_do_not_add_up_in_time_stop_the_run() -> None:
    assert Evaluations(EarlyStoppingCallback(3, 0.1)).stop_at([1.0, 0.99, 0.98, 0.97]) == 4


def test_the_reason_names_metric_and_count() -> None:
    callback = EarlyStoppingCallback(2, 0.1)
    assert Evaluations(callback).stop_at([1.0, 1.0, 1.0]) == 3
    assert callback.reason == "eval_loss has not improved by more than 0.1 in 2 evaluations"


def test_state_travels_through_json_and_goes_on_counting() -> None:
    callback = EarlyStoppingCallback(3, 0.1)
    assert Evaluations(callback).stop_at([1.0, 1.0, 1.0]) is None
    restored = EarlyStoppingCallback(3, 0.1)
    restored.load_state_dict(json.loads(json.dumps(callback.state_dict())))
    assert restored.state_dict() == callback.state_dict()
    assert Evaluations(restored).stop_at([0.95]) == 1


def test_the_exported_state_is_that_of_the_reference() -> None:
    reference = import_module("transformers").EarlyStoppingCallback(3, 0.1)
    callback = EarlyStoppingCallback(3, 0.1)
    assert callback.state() == reference.state()
    assert Evaluations(callback).stop_at([1.0, 1.0, 1.0]) is None
    reference.early_stopping_patience_counter = 2
    assert callback.state() == reference.state()
    restored = type(reference).from_state(json.loads(json.dumps(callback.state())))
    assert restored.state() == callback.state()


def test_a_second_run_starts_counting_anew() -> None:
    callback = EarlyStoppingCallback(2)
    assert Evaluations(callback).stop_at([1.0, 1.0, 1.0]) == 3
    assert Evaluations(callback).stop_at([5.0, 5.0]) is None


def test_a_resumed_run_without_the_callbacks_state_compares_with_the_best_metric() -> None:
    callback = EarlyStoppingCallback(1)
    control = TrainerControl()
    state = TrainerState(best_metric=0.5)
    callback.on_train_begin(arguments(), state, control)
    callback.on_evaluate(arguments(), state, control, metrics={"eval_loss": 0.6})
    assert control.should_training_stop


def test_an_absent_metric_is_said_once_and_checks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Evaluations(EarlyStoppingCallback(1))
    with caplog.at_level(logging.WARNING, "stepbus"):
        for _ in range(3):
            run.callback.on_evaluate(run.args, run.state, run.control, metrics={"eval_f1": 1.0})
    assert not run.control.should_training_stop
    (record,) = caplog.records
    assert "watches eval_loss, which an evaluation did not give" in record.message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"metric_for_best_model": None}, "needs metric_for_best_model, which is None"),
        ({"eval_strategy": "no"}, "eval_strategy is 'no'"),
    ],
)
def test_a_run_that_cannot_be_watched_is_refused(args: dict[str, Any], message: str) -> None:
    chosen = arguments(**{"load_best_model_at_end": False, **args})
    with pytest.raises(ArgumentError, match=message):
        EarlyStoppingCallback().check(chosen)
    with pytest.raises(ArgumentError, match=message):
        EarlyStoppingCallback().on_train_begin(chosen, TrainerState(), TrainerControl())


@pytest.mark.parametrize("patience", [0, -1, 1.5, True, "2"])
def test_a_patience_out_of_bounds_is_refused(patience: Any) -> None:
    with pytest.raises(ArgumentError, match="early_stopping_patience="):
        EarlyStoppingCallback(patience)


@pytest.mark.parametrize("threshold", [-0.1, math.nan, math.inf])
def test_a_threshold_out_of_bounds_is_refused(threshold: float) -> None:
    with pytest.raises(ArgumentError, match="early_stopping_threshold="):
        EarlyStoppingCallback(1, threshold)
