"""When a run logs, evaluates, saves and stops: the reference's rules, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.schemas import TrainerControl, TrainerState, TrainingArguments
from stepbus.subscribers import DefaultFlowCallback

LOG, EVALUATE, SAVE, STOP = "log", "evaluate", "save", "stop"


def asked(control: TrainerControl) -> set[str]:
    return {action for action, _ in control.standing()}


def at_step(step: int, state: dict[str, Any] | None = None, **args: Any) -> set[str]:
    chosen = {"eval_strategy": "steps", "eval_steps": 3, "save_steps": 6, "logging_steps": 2}
    arguments = TrainingArguments("out", **{**chosen, **args})
    intervals = {"logging_steps": 2, "eval_steps": 3, "save_steps": 6, "max_steps": 100}
    live = TrainerState(global_step=step, **{**intervals, **(state or {})})
    control = TrainerControl()
    assert DefaultFlowCallback().on_step_end(arguments, live, control) is control
    return asked(control)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (1, set()),
        (2, {LOG}),
        (3, {EVALUATE}),
        (4, {LOG}),
        (6, {LOG, EVALUATE, SAVE}),
        (12, {LOG, EVALUATE, SAVE}),
        (99, {EVALUATE}),
    ],
)
def test_actions_come_at_multiples_of_their_intervals(step: int, expected: set[str]) -> None:
    assert at_step(step) == expected


@pytest.mark.parametrize("strategy", ["no", "epoch"])
def test_other_strategies_ask_for_nothing_at_a_step(strategy: str) -> None:
    strategies: dict[str, Any] = dict.fromkeys(
        ("logging_strategy", "eval_strategy", "save_strategy"), strategy
    )
    assert at_step(6, **strategies) == set()
    assert at_step(100, **strategies) == {STOP}


def test_the_first_step_is_logged_where_asked_even_with_logging_by_epoch() -> None:
    assert at_step(1, logging_first_step=True) == {LOG}
    assert at_step(1, logging_first_step=True, logging_strategy="no") == {LOG}
    assert at_step(5, logging_first_step=True) == set()


@pytest.mark.parametrize(("step", "expected"), [(3, set()), (6, {EVALUATE}), (9, {EVALUATE})])
def test_no_evaluation_before_the_delay(step: int, expected: set[str]) -> None:
    assert at_step(step, eval_delay=6) & {EVALUATE} == expected


def test_intervals_are_those_of_the_state_not_of_the_arguments() -> None:
    assert at_step(7, {"logging_steps": 7, "eval_steps": 7, "save_steps": 7}) == {
        LOG,
        EVALUATE,
        SAVE,
    }


def test_an_interval_of_zero_is_never_due() -> None:
    assert at_step(6, {"save_steps": 0}) == {LOG, EVALUATE}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, {EVALUATE, SAVE, STOP}),
        ({"eval_delay": 200}, {SAVE, STOP}),
        ({"eval_strategy": "epoch"}, {SAVE, STOP}),
        ({"save_strategy": "epoch"}, {EVALUATE, STOP}),
        ({"save_strategy": "best"}, {EVALUATE, STOP}),
        ({"save_strategy": "no", "eval_strategy": "no"}, {STOP}),
    ],
)
def test_the_last_step_stops_and_saves_and_evaluates_by_steps(
    args: dict[str, Any], expected: set[str]
) -> None:
    assert at_step(101, {"max_steps": 101}, **args) == expected
    assert at_step(103, {"max_steps": 101}, **args) == expected


@pytest.mark.parametrize(
    ("args", "epoch", "expected"),
    [
        ({"eval_strategy": "no", "save_strategy": "no"}, 1.0, set()),
        ({"logging_strategy": "epoch"}, 1.0, {LOG}),
        ({"eval_strategy": "epoch"}, 1.0, {EVALUATE}),
        ({"eval_strategy": "epoch", "eval_delay": 2}, 1.0, set()),
        ({"eval_strategy": "epoch", "eval_delay": 2}, 2.0, {EVALUATE}),
        ({"save_strategy": "epoch"}, 0.5, {SAVE}),
        ({"save_strategy": "best", "eval_strategy": "epoch"}, 1.0, {EVALUATE}),
    ],
)
def test_an_epochs_end_logs_evaluates_and_saves_by_epoch(
    args: dict[str, Any], epoch: float, expected: set[str]
) -> None:
    control = TrainerControl()
    arguments = TrainingArguments("out", **args)
    DefaultFlowCallback().on_epoch_end(arguments, TrainerState(epoch=epoch), control)
    assert asked(control) == expected


def test_it_withdraws_nothing_that_others_asked_for() -> None:
    control = TrainerControl(should_log=True, should_save=True)
    arguments = TrainingArguments("out", logging_strategy="no", save_strategy="no")
    DefaultFlowCallback().on_step_end(arguments, TrainerState(global_step=1, max_steps=9), control)
    assert asked(control) == {LOG, SAVE}


@given(
    step=st.integers(0, 40),
    max_steps=st.integers(1, 60),
    intervals=st.tuples(*[st.integers(0, 7)] * 3),
    strategies=st.tuples(*[st.sampled_from(["no", "steps", "epoch"])] * 3),
    delay=st.integers(0, 20),
    first=st.booleans(),
)
def test_it_knows_the_steps_at_which_it_asks_for_a_log_alone_and_for_nothing(
    step: int,
    max_steps: int,
    intervals: tuple[int, int, int],
    strategies: tuple[str, str, str],
    delay: int,
    first: bool,
) -> None:
    log, evaluate, save = strategies
    arguments = TrainingArguments(
        "out",
        logging_strategy=log,
        logging_first_step=first,
        eval_strategy=evaluate,
        eval_delay=delay,
        save_strategy=save,
    )
    names = ("logging_steps", "eval_steps", "save_steps")
    flow = DefaultFlowCallback()

    def state(at: int) -> TrainerState:
        steps: dict[str, Any] = dict(zip(names, intervals, strict=True))
        return TrainerState(global_step=at, max_steps=max_steps, **steps)

    due = flow.next_due(arguments, state(step))
    logs = {due.log, *range(due.log, due.other, due.log_steps or due.other)}
    assert min(due.log, due.other) > step
    for idle in range(step + 1, due.other):
        control = TrainerControl()
        flow.on_step_end(arguments, state(idle), control)
        if due.log_steps or idle <= due.log:
            assert control.flags == TrainerControl(should_log=idle in logs).flags
