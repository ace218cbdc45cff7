"""Training arguments that follow from one another, or contradict each other."""

from typing import Any

import pytest

from stepbus.schemas import ArgumentError, TrainingArguments

CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"logging_steps": 0}, "logging_steps is 0 with logging_strategy='steps'"),
    ({"save_steps": 0}, "save_steps is 0 with save_strategy='steps'"),
    (
        {"eval_strategy": "steps", "logging_strategy": "no", "logging_steps": 0},
        "eval_strategy='steps' needs eval_steps, or logging_steps",
    ),
    ({"save_strategy": "best"}, "eval_strategy is 'no': set eval_strategy to 'steps' or 'epoch'"),
    (
        {"load_best_model_at_end": True},
        "eval_strategy is 'no' and save_strategy is 'steps': make them equal",
    ),
    (
        {"load_best_model_at_end": True, "eval_strategy": "epoch"},
        "eval_strategy is 'epoch' and save_strategy is 'steps': make them equal",
    ),
    (
        {"load_best_model_at_end": True, "save_strategy": "no"},
        "eval_strategy and save_strategy are both 'no'",
    ),
    (
        {
            "load_best_model_at_end": True,
            "eval_strategy": "steps",
            "eval_steps": 3,
            "save_steps": 10,
        },
        "round multiple of eval_steps, but save_steps is 10 and eval_steps is 3",
    ),
    (
        {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 0.1},
        "save_steps is 500 and eval_steps is 0.1; give both in the same way",
    ),
    (
        {
            "load_best_model_at_end": True,
            "eval_strategy": "steps",
            "eval_steps": 0.2,
            "save_steps": 0.3,
        },
        "round multiple of eval_steps, but save_steps is 0.3 and eval_steps is 0.2",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), CONTRADICTIONS)
def test_a_contradiction_is_one_clear_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        TrainingArguments(**arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_steps_that_no_strategy_uses_may_be_zero() -> None:
    args = TrainingArguments(
        logging_strategy="no", logging_steps=0, save_strategy="epoch", save_steps=0
    )
    assert (args.logging_steps, args.save_steps) == (0, 0)


@pytest.mark.parametrize("missing", [None, 0])
def test_steps_between_evaluations_fall_back_to_those_between_logs(missing: int | None) -> None:
    args = TrainingArguments(eval_strategy="steps", eval_steps=missing, logging_steps=20)
    assert args.eval_steps == 20
    assert TrainingArguments(eval_strategy="epoch", logging_steps=20).eval_steps is None


@pytest.mark.parametrize(
    ("save_steps", "eval_steps"), [(10, 5), (5, 5), (0.3, 0.1), (0.1, 0.1), (0.21, 0.07)]
)
def test_the_best_model_can_be_loaded_where_every_save_follows_an_evaluation(
    save_steps: float, eval_steps: float
) -> None:
    args = TrainingArguments(
        load_best_model_at_end=True,
        eval_strategy="steps",
        eval_steps=eval_steps,
        save_steps=save_steps,
    )
    assert (args.save_steps, args.eval_steps) == (save_steps, eval_steps)


def test_saving_the_best_goes_with_any_interval_of_evaluations() -> None:
    args = TrainingArguments(
        load_best_model_at_end=True, save_strategy="best", eval_strategy="steps", eval_steps=7
    )
    assert args.metric_for_best_model == "loss"


@pytest.mark.parametrize(
    "arguments",
    [
        {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"},
        {"eval_strategy": "epoch", "save_strategy": "best"},
    ],
)
def test_the_best_model_is_that_of_least_loss_unless_said_otherwise(
    arguments: dict[str, Any],
) -> None:
    args = TrainingArguments(**arguments)
    assert args.metric_for_best_model == "loss"
    assert args.greater_is_better is False
    accuracy = TrainingArguments(metric_for_best_model="accuracy", **arguments)
    assert accuracy.greater_is_better is True


@pytest.mark.parametrize(
    ("metric", "greater"),
    [("loss", False), ("eval_loss", False), ("my_loss", False), ("loss_of_face", True)],
)
def test_more_is_better_unless_the_metrics_name_ends_in_loss(metric: str, greater: bool) -> None:
    assert TrainingArguments(metric_for_best_model=metric).greater_is_better is greater
    stated = TrainingArguments(metric_for_best_model=metric, greater_is_better=not greater)
    assert stated.greater_is_better is not greater


def test_without_a_best_model_no_metric_is_made_up() -> None:
    args = TrainingArguments(eval_strategy="epoch", save_strategy="epoch")
    assert args.metric_for_best_model is None
    assert args.greater_is_better is None
