"""Differences on purpose in votes, stops and what callbacks may do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.differential import differences as table
from tests.differential.case import Case, Outcome
from tests.differential.conftest import Both
from tests.differential.data import nothing
from tests.differential.grouping import covers
from tests.differential.libraries import STEPBUS, Library
from tests.differential.scoring import scored, stopping
from tests.differential.voting import voter

SCHEDULE: dict[str, Any] = {
    "num_train_epochs": 3,
    "gradient_accumulation_steps": 2,
    "logging_steps": 4,
    "eval_strategy": "steps",
    "eval_steps": 4,
    "save_strategy": "steps",
    "save_steps": 4,
}
"""Three steps of two micro-batches an epoch; log, evaluation and checkpoint at 4 and 8."""
LOG, EVALUATE, SAVE = "should_log", "should_evaluate", "should_save"
STOP_EPOCH, STOP = "should_epoch_stop", "should_training_stop"
DONE_AT = {LOG: [4, 8], EVALUATE: [4, 8, 9], SAVE: [4, 8, 9]}


def test_each_difference_has_a_test() -> None:
    names = {name for name in vars(table) if isinstance(getattr(table, name), table.Difference)}
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_differences*.py"))
    assert names == set(re.findall(r"^@covers\(table\.(\w+)\)$", tests, re.MULTILINE))


def done(outcome: Outcome, flag: str) -> list[int]:
    """The steps at which something was done."""
    if flag == LOG:
        return [row["step"] for row in outcome.history if "loss" in row]
    return outcome.steps({EVALUATE: "evaluate", SAVE: "save"}[flag])


LOST = [
    *(("init_end", flag, 1) for flag in DONE_AT),
    *(("train_begin", flag, 1) for flag in DONE_AT),
    *(("epoch_begin", flag, 1) for flag in DONE_AT),
    ("log", LOG, 5),
    ("prediction_step", LOG, 5),
    ("prediction_step", EVALUATE, 5),
    ("evaluate", LOG, 5),
    ("evaluate", EVALUATE, 5),
    *(("save", flag, 5) for flag in DONE_AT),
]


@covers(table.LOST_VOTES)
@pytest.mark.parametrize(("hook", "flag", "step"), LOST)
def test_a_vote_that_the_reference_loses(both: Both, hook: str, flag: str, step: int) -> None:
    reference, stepbus = both(Case("lost", SCHEDULE, callbacks=voter(hook, flag)))
    assert not reference.error + stepbus.error
    assert done(reference, flag) == DONE_AT[flag]
    assert done(stepbus, flag) == sorted([*DONE_AT[flag], step])
    assert reference.state["step"] == stepbus.state["step"] == 9


@covers(table.LOST_VOTES)
@pytest.mark.parametrize("hook", ["init_end", "train_begin"])
def test_an_epoch_stop_that_the_reference_loses(both: Both, hook: str) -> None:
    reference, stepbus = both(Case("lost", SCHEDULE, callbacks=voter(hook, STOP_EPOCH)))
    assert reference.steps("epoch_end") == [3, 6, 9]
    assert stepbus.steps("epoch_end") == [1, 4, 7]


@covers(table.LOST_VOTES)
def test_a_stop_that_the_reference_loses(both: Both) -> None:
    reference, stepbus = both(Case("lost", SCHEDULE, callbacks=voter("init_end", STOP)))
    assert (reference.state["step"], stepbus.state["step"]) == (9, 1)


@covers(table.LOST_VOTES)
@pytest.mark.parametrize("flag", [LOG, EVALUATE])
def test_a_vote_in_the_save_of_an_epochs_last_step(both: Both, flag: str) -> None:
    arguments = {"logging_strategy": "no", "save_strategy": "steps", "save_steps": 6}
    outcomes = both(Case("at 6", arguments, callbacks=voter("save", flag)))
    answer = {LOG: "log", EVALUATE: "evaluate"}[flag]
    for outcome, order in zip(
        outcomes, (["save", "epoch_end", answer], ["save", answer, "epoch_end"]), strict=True
    ):
        at_six = [c.hook for c in outcome.calls if c.step == 6 and c.hook in order]
        assert at_six == order


@covers(table.LOG_AGAIN)
def test_a_log_at_a_step_that_was_logged(both: Both) -> None:
    case = Case("again", {"num_train_epochs": 1}, callbacks=voter("epoch_end", LOG))
    reference, stepbus = both(case)
    assert [row["step"] for row in reference.history] == [1, 2, 3, 4, 5, 6, 6]
    assert [row["step"] for row in stepbus.history] == [1, 2, 3, 4, 5, 6, 6, 6]
    assert set(stepbus.history[6]) == {"epoch", "grad_norm", "learning_rate", "step"}


@covers(table.LAST_KEPT)
def test_the_last_checkpoint_beside_the_best(both: Both) -> None:
    case = scored("kept", (5.0, 2.0, 3.0, 2.5, 4.0, 3.5), save_total_limit=1)
    reference, stepbus = both(case)
    assert reference.folders == ["checkpoint-4"]
    assert stepbus.folders == ["checkpoint-4", "checkpoint-12"]


@covers(table.SAVE_UNDER_BEST)
@pytest.mark.parametrize("hook", ["step_end", "log", "evaluate"])
def test_a_vote_to_save_under_best(both: Both, hook: str) -> None:
    case = scored(
        "best",
        (5.0, 2.0, 3.0, 2.5, 4.0, 3.5),
        # Logs alternate with those of the evaluations; the third evaluation is not the best.
        voter(hook, SAVE, {"step_end": 6, "log": 5, "evaluate": 3}[hook]),
        save_strategy="best",
        load_best_model_at_end=False,
        logging_steps=2,
    )
    reference, stepbus = both(case)
    assert reference.steps("save") == [2, 4]
    assert stepbus.steps("save") == [2, 4, 6]


@covers(table.HALF_STEPS)
@pytest.mark.parametrize(
    ("hook", "call", "steps"),
    [
        ("train_begin", 1, (0, 1)),
        ("epoch_begin", 1, (0, 1)),
        ("step_begin", 2, (1, 2)),
        ("substep_end", 2, (1, 2)),
    ],
)
def test_a_stop_in_half_a_step(both: Both, hook: str, call: int, steps: tuple[int, int]) -> None:
    reference, stepbus = both(Case("stop", SCHEDULE, callbacks=voter(hook, STOP, call)))
    assert (reference.state["step"], stepbus.state["step"]) == steps
    assert [len(o.of("substep_end")) for o in (reference, stepbus)] == [steps[0] + 1, steps[1]]


@covers(table.HALF_STEPS)
@pytest.mark.parametrize(
    ("hook", "call", "steps"),
    [("epoch_begin", 2, (3, 4)), ("step_begin", 2, (1, 2)), ("substep_end", 2, (1, 2))],
)
def test_an_epoch_stop_in_half_a_step(
    both: Both, hook: str, call: int, steps: tuple[int, int]
) -> None:
    reference, stepbus = both(Case("stop", SCHEDULE, callbacks=voter(hook, STOP_EPOCH, call)))
    for outcome, step in zip((reference, stepbus), steps, strict=True):
        assert step in outcome.steps("epoch_end")
    assert any(begin.gradients for begin in reference.of("step_begin"))
    assert not any(begin.gradients for begin in stepbus.of("step_begin"))


@covers(table.ABANDONED_EVALUATION)
def test_a_stop_during_an_evaluation(both: Both) -> None:
    reference, stepbus = both(Case("stop", SCHEDULE, callbacks=voter("prediction_step", STOP)))
    assert reference.state["step"] == stepbus.state["step"] == 4
    assert (reference.steps("evaluate"), stepbus.steps("evaluate")) == ([4], [])
    assert len(reference.of("prediction_step")) == 3
    assert len(stepbus.of("prediction_step")) == 1
    assert reference.folders == stepbus.folders == ["checkpoint-4"]


@covers(table.EVALUATION_WITHOUT_DATA)
def test_an_evaluation_without_data(both: Both) -> None:
    case = Case("none", eval=nothing, callbacks=voter("step_end", EVALUATE, 3))
    reference, stepbus = both(case)
    assert "requires an eval_dataset" in reference.error
    assert not stepbus.error
    assert stepbus.state["step"] == 12


@covers(table.FAILING_CALLBACK)
@pytest.mark.parametrize("hook", ["step_begin", "log", "train_begin", "save"])
def test_a_callback_that_raises(both: Both, hook: str) -> None:
    def failing(library: Library) -> list[Any]:
        def method(*args: Any, **keywords: Any) -> None:
            raise RuntimeError("the dashboard is gone")

        return [type("Failing", (library.TrainerCallback,), {f"on_{hook}": method})()]

    reference, stepbus = both(Case("failing", SCHEDULE, callbacks=failing))
    assert "the dashboard is gone" in reference.error
    assert not stepbus.error
    assert stepbus.state["step"] == 9


@covers(table.SLOW_GAINS)
def test_slow_gains(both: Both) -> None:
    slow = (5.0, 4.6, 4.2, 3.8, 3.4, 3.0)
    reference, stepbus = both(scored("slow", slow, stopping(2, 0.5)))
    assert (reference.state["step"], stepbus.state["step"]) == (6, 12)
    as_there = scored(
        "slow",
        slow,
        lambda library: stopping(
            2, 0.5, **({"count_slow_gains_as_failures": True} if library is STEPBUS else {})
        )(library),
    )
    reference, stepbus = both(as_there)
    assert (reference.state["step"], stepbus.state["step"]) == (6, 6)
