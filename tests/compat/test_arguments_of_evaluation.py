"""Arguments about evaluations and checkpoints, through the whole Trainer beside the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compat.pairs import make, of_both
from tests.differential.case import Case, Outcome
from tests.differential.data import rows, texts
from tests.differential.libraries import Library
from tests.differential.models import gpt2

Check = Callable[[Case], Outcome]

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4, "num_train_epochs": 1}
SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}


def shapes(value: Any) -> Any:
    """Types and shapes of nested arrays."""
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(shapes(item) for item in value)]
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape
    return type(value).__name__


def shown(library: Library) -> dict[str, Any]:
    """A `compute_metrics` that gives back what it was given, in words and figures."""

    def compute(prediction: Any, compute_result: bool = True) -> dict[str, Any]:
        return {
            "elements": str(shapes(list(prediction))),
            "inputs": str(shapes(prediction.inputs)),
            "losses": str(shapes(prediction.losses)),
            "result": compute_result,
        }

    return {"compute_metrics": compute}


METRICS: dict[str, dict[str, Any]] = {
    "eval_accumulation_steps": {"eval_accumulation_steps": 1},
    "eval_do_concat_batches": {"eval_do_concat_batches": False},
    "eval_do_concat_batches and eval_accumulation_steps": {
        "eval_do_concat_batches": False,
        "eval_accumulation_steps": 2,
    },
    "include_for_metrics, inputs": {"include_for_metrics": ["inputs"]},
    "include_for_metrics, both": {"include_for_metrics": ["inputs", "loss"]},
    "batch_eval_metrics": {"batch_eval_metrics": True},
    "prediction_loss_only": {"prediction_loss_only": True},
    "per_device_eval_batch_size": {"per_device_eval_batch_size": 3},
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_given_what_they_are_given_there(check: Check, name: str) -> None:
    arguments = EVALUATED | METRICS[name]
    check(Case(name, arguments, gpt2, texts(12), texts(6, seed=1), trainer=shown))


@pytest.mark.parametrize("name", [name for name in METRICS if "include" not in name])
def test_predictions_are_those_of_the_reference(tmp_path: Path, name: str) -> None:
    def predicted(library: Library) -> Any:
        arguments = METRICS[name] | {"per_device_eval_batch_size": 2}
        found = make(library, tmp_path, **arguments).predict(rows(7, 3))
        metrics = {k: v for k, v in found.metrics.items() if k.endswith("loss")}
        return shapes(found.predictions), shapes(found.label_ids), metrics

    theirs, ours = of_both(predicted)
    assert ours == theirs


def scored(library: Library) -> dict[str, Any]:
    """A metric that rises and falls again."""
    scores = iter([1.0, 5.0, 0.5, 3.0])
    return {"compute_metrics": lambda prediction: {"score": next(scores)}}


BEST = [
    Case(
        f"greater_is_better {greater}, save_only_model {alone}",
        {
            **SAVED,
            **EVALUATED,
            "num_train_epochs": 2,
            "load_best_model_at_end": True,
            "metric_for_best_model": "score",
            "greater_is_better": greater,
            "save_only_model": alone,
        },
        trainer=scored,
    )
    for greater, alone in ((True, False), (False, True), (None, False))
]


@pytest.mark.parametrize("case", BEST, ids=lambda case: case.name)
def test_the_best_model_is_that_of_the_reference(check: Check, case: Case) -> None:
    outcome = check(case)
    best = outcome.state["best_global_step"]
    assert best == (12 if case.arguments["greater_is_better"] is False else 8)


@pytest.mark.parametrize("alone", [True, False])
def test_a_checkpoint_of_the_model_only_has_the_files_of_the_reference(
    tmp_path: Path, alone: bool
) -> None:
    def files(library: Library) -> dict[str, int]:
        trainer = make(library, tmp_path, **SAVED, max_steps=4, save_only_model=alone)
        trainer.train()
        folder = Path(trainer.args.output_dir) / "checkpoint-4"
        return {path.name: path.stat().st_size for path in folder.iterdir()}

    theirs, ours = of_both(files)
    assert {"model.safetensors", "trainer_state.json"} <= ours.keys() & theirs.keys()
    pickles = {"optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"}
    assert not pickles & ours.keys()
    assert ("optimizer.pt" in theirs) is not alone
    assert (ours["state.json"] > 1000) is not alone, "the states of optimizer and run"
