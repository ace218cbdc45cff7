"""The comparison itself: one library twice is equal, and whatever is changed is found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.differential.case import Case, Outcome, Session
from tests.differential.comparing import differ, differences
from tests.differential.conftest import Run
from tests.differential.data import nothing, samples
from tests.differential.libraries import REFERENCE, Library
from tests.differential.models import LossKeywords

EVERYTHING: dict[str, Any] = {
    "eval_strategy": "steps",
    "eval_steps": 3,
    "save_strategy": "steps",
    "save_steps": 3,
    "save_total_limit": 2,
    "gradient_accumulation_steps": 2,
}


def test_the_reference_twice_is_equal(outcome_of: Run) -> None:
    case = Case("twice", EVERYTHING)
    one, other = outcome_of(case, REFERENCE), outcome_of(case, REFERENCE)
    assert not one.error
    assert len(one.calls) > 30
    assert one.folders == ["checkpoint-3", "checkpoint-6"]
    assert set(one.files["checkpoint-3"]) == {"model.safetensors", "trainer_state.json"}
    assert differences(one, other) == []


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "data order": ({"data_seed": 7}, "weights"),
    "seed": ({"seed": 43}, "generators"),
    "rate": ({"learning_rate": 0.021}, "learning_rates"),
    "clipping": ({"max_grad_norm": 0.9}, "weights"),
    "epsilon": ({"adam_epsilon": 1e-7}, "weights"),
    "logging": ({"logging_steps": 2}, "calls: "),
    "evaluating": ({"eval_steps": 2}, "calls: "),
    "saving": ({"save_steps": 2}, "folders"),
    "rotation": ({"save_total_limit": 1}, "folders"),
    "length": ({"num_train_epochs": 1}, "results.train.global_step"),
    "evaluation batches": ({"per_device_eval_batch_size": 5}, "calls: "),
    "best model": ({"metric_for_best_model": "loss"}, "best_metric"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_argument_is_reported(outcome_of: Run, change: str) -> None:
    changed, where = CHANGES[change]
    one = outcome_of(Case("as it is", EVERYTHING), REFERENCE)
    other = outcome_of(Case("changed", EVERYTHING | changed), REFERENCE)
    assert any(where in line for line in differences(one, other))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changed",
    [
        Case("model", model=LossKeywords, arguments=EVERYTHING),
        Case("data", train=samples(21), arguments=EVERYTHING),
        Case("evaluation data", eval=samples(10, seed=3), arguments=EVERYTHING),
    ],
    ids=lambda case: case.name,
)
def test_another_part_is_reported(outcome_of: Run, changed: Case) -> None:
    one = outcome_of(Case("as it is", EVERYTHING), REFERENCE)
    assert differences(one, outcome_of(changed, REFERENCE))


def drawing(hook: str) -> Callable[[Library], list[Any]]:
    """A callback that draws a random number."""

    def make(library: Library) -> list[Any]:
        def draw(*args: Any, **keywords: Any) -> None:
            torch.rand(1)

        return [type("Drawing", (library.TrainerCallback,), {f"on_{hook}": draw})()]

    return make


@pytest.mark.slow
def test_a_random_number_too_many_is_reported(outcome_of: Run) -> None:
    one = outcome_of(Case("as it is", EVERYTHING), REFERENCE)
    other = outcome_of(Case("drawing", EVERYTHING, callbacks=drawing("train_end")), REFERENCE)
    found = differences(one, other)
    assert found
    assert all("generators" in line for line in found)


def test_an_error_is_part_of_the_outcome(outcome_of: Run) -> None:
    def script(session: Session) -> None:
        session.make().evaluate()

    outcome = outcome_of(Case("no data", eval=nothing, script=script), REFERENCE)
    assert "eval_dataset" in outcome.error
    assert list(differences(Outcome(), Outcome(error="ValueError: x")))


NAN = float("nan")
SAME: list[tuple[Any, Any]] = [
    (NAN, NAN),
    ({"eval_runtime": 0.1}, {"eval_runtime": 3.0}),
    (np.float64(2.0), 2.0),
    ((1, [2.0]), [1, (2.0,)]),
    (torch.tensor([1.0, NAN]), torch.tensor([1.0, NAN])),
    (np.array([1.0, NAN]), np.array([1.0, NAN])),
]
OTHER: list[tuple[Any, Any]] = [
    (1, 1.0),
    (True, 1),
    (1.0, 1.0 + 2**-52),
    (None, 0.0),
    ({"a": 1}, {}),
    ({}, {"a": 1}),
    ([1], [1, 2]),
    ({"eval_runtime": 0.1}, {}),
    ({"eval_runtime": 0.1}, {"eval_runtime": 1.23456789}),
    (torch.ones(2), torch.ones(2, dtype=torch.float64)),
    (torch.ones(2), torch.tensor([1.0, 1.0 + 2**-23])),
    (np.ones(2), np.ones((2, 1))),
    (np.ones(2), torch.ones(2)),
    ("a", "b"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_equal_values(one: Any, other: Any) -> None:
    assert list(differ("value", one, other)) == []


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_unequal_values(one: Any, other: Any) -> None:
    assert len(list(differ("value", one, other))) == 1
