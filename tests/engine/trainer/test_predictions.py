"""What evaluations give back has the reference's fields and ways."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from stepbus.engine.trainer import predictions as ours

theirs: Any = import_module("transformers.trainer_utils")

PREDICTIONS, LABELS = np.ones((3, 2)), np.zeros(3)
INPUTS, LOSSES = np.full((3, 4), 7), np.full(3, 0.5)


@pytest.mark.parametrize(
    "extras",
    [{}, {"inputs": INPUTS}, {"losses": LOSSES}, {"inputs": INPUTS, "losses": LOSSES}],
)
def test_an_eval_prediction_unpacks_and_indexes_like_the_references(
    extras: dict[str, Any],
) -> None:
    given = ours.EvalPrediction(PREDICTIONS, LABELS, **extras)
    reference = theirs.EvalPrediction(PREDICTIONS, LABELS, **extras)

    elements = list(given)
    assert len(elements) == len(list(reference))
    assert all(a is b for a, b in zip(elements, reference, strict=True))
    assert given[0] is PREDICTIONS
    assert given[1] is LABELS
    assert (given.inputs, given.losses) == (reference.inputs, reference.losses)
    for index in (-1, len(elements)):
        with pytest.raises(IndexError, match="include_for_metrics"):
            given[index]


@pytest.mark.parametrize("name", ["EvalLoopOutput", "PredictionOutput", "TrainOutput"])
def test_the_named_tuples_have_the_references_fields(name: str) -> None:
    assert getattr(ours, name)._fields == getattr(theirs, name)._fields
