"""The timeline of TrainingEvent's docstring, as a run really emits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from stepbus import TrainerCallback

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


def step(accumulation: int) -> list[str]:
    substeps = ["substep_end"] * (accumulation - 1)
    return ["step_begin", *substeps, "pre_optimizer_step", "optimizer_step", "step_end"]


EVALUATION = ["prediction_step"] * 6 + ["log", "evaluate"]


def test_one_micro_batch_a_step(loop: Loop) -> None:
    loop.train(
        logging_strategy="steps", logging_steps=4, eval_strategy="epoch", save_strategy="epoch"
    )
    first = [name for n in range(1, 7) for name in step(1) + ["log"] * (n == 4)]
    second = [name for n in range(7, 13) for name in step(1) + ["log"] * (n in (8, 12))]
    end = ["epoch_end", *EVALUATION, "save"]
    assert loop.recorder.names() == [
        "init_end",
        "train_begin",
        "epoch_begin",
        *first,
        *end,
        "epoch_begin",
        *second,
        *end,
        "log",
        "train_end",
    ]


def test_three_micro_batches_a_step_with_all_actions_in_one_round(loop: Loop) -> None:
    loop.train(
        gradient_accumulation_steps=4,
        eval_on_start=True,
        logging_strategy="steps",
        logging_steps=2,
        eval_strategy="steps",
        save_strategy="steps",
        save_steps=2,
    )
    # Six batches an epoch: a step of four, and one of the two that are left.
    epoch = [*step(4), *step(2), "log", *EVALUATION, "save", "epoch_end"]
    assert loop.recorder.names() == [
        "init_end",
        "train_begin",
        *EVALUATION,
        "epoch_begin",
        *epoch,
        "epoch_begin",
        *epoch,
        "log",
        "train_end",
    ]


def test_numbers_steps_and_epochs_of_the_events(loop: Loop) -> None:
    loop.train(gradient_accumulation_steps=3)
    events = loop.recorder.events
    assert [event.seq for event in events] == list(range(len(events)))
    at = {
        name: [(e.step, e.epoch) for e in loop.recorder.of(name)] for name in loop.recorder.names()
    }
    assert at["epoch_begin"] == [(0, 0.0), (2, 1.0)]
    assert at["step_begin"] == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 1.5)]
    assert at["optimizer_step"] == at["step_begin"]
    assert at["step_end"] == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
    assert at["epoch_end"] == [(2, 1.0), (4, 2.0)]
    assert at["train_end"] == [(4, 2.0)]
    assert [event.state.global_step for event in events] == [event.step for event in events]
    begin = loop.recorder.of("train_begin")[0]
    assert (begin.max_steps, begin.num_train_epochs, begin.steps_per_epoch) == (4, 2, 2)
    assert begin.num_parameters == 8 * 8 + 8 + 8 + 1
    assert begin.arguments["gradient_accumulation_steps"] == 3
    assert begin.resumed_from is None


def test_callbacks_of_hugging_faces_shape_are_called_in_the_same_order(loop: Loop) -> None:
    called: list[str] = []

    class Noting(TrainerCallback):
        pass

    def hook(name: str) -> Callable[..., None]:
        return lambda *args, **keywords: called.append(name.removeprefix("on_"))

    names = [name for name in vars(TrainerCallback) if name.startswith("on_")]
    for name in names:
        setattr(Noting, name, hook(name))
    loop.train(
        callbacks=[Noting],
        gradient_accumulation_steps=3,
        logging_strategy="epoch",
        eval_strategy="epoch",
        save_strategy="epoch",
    )
    assert called == loop.recorder.names()


@pytest.mark.parametrize(
    ("fields", "steps", "epochs"),
    [
        ({"num_train_epochs": 1.5}, 9, [1.0, 1.5]),
        ({"max_steps": 8}, 8, [1.0, 8 / 6]),
        ({"max_steps": 3}, 3, [0.5]),
        ({"num_train_epochs": 0.1}, 1, [1 / 6]),
    ],
)
def test_length_of_a_run(
    loop: Loop, fields: dict[str, Any], steps: int, epochs: list[float]
) -> None:
    loop.train(**fields)
    assert loop.steps_done == steps
    assert [event.epoch for event in loop.recorder.of("epoch_end")] == epochs
    end = loop.recorder.of("train_end")[0]
    assert (end.status, end.reason, end.stopped_by) == ("finished", "", "")
