"""Evaluations and predictions: what the metrics are computed from, and what comes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.differential.case import Case, Outcome, Session
from tests.differential.data import (
    SizedStream,
    Stream,
    renamed,
    rows,
    samples,
    sets,
    texts,
    without_labels,
)
from tests.differential.grouping import each
from tests.differential.libraries import Library
from tests.differential.models import DictRegression, OtherNames, TwoOutputs, gpt2

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4, "num_train_epochs": 1}


def seen(prediction: Any) -> dict[str, Any]:
    """Everything that `compute_metrics` was given, in figures."""
    figures: dict[str, Any] = {}
    for name in ("predictions", "label_ids", "inputs", "losses"):
        value = getattr(prediction, name)
        parts = value if isinstance(value, tuple | list) else [value]
        for index, part in enumerate(parts):
            if part is not None:
                figures[f"{name}_{index}_sum"] = float(np.asarray(part, dtype=np.float64).sum())
                figures[f"{name}_{index}_size"] = int(np.asarray(part).size)
    return figures


def with_metrics(library: Library) -> dict[str, Any]:
    return {"compute_metrics": seen}


def numpy_metrics(library: Library) -> dict[str, Any]:
    def compute(prediction: Any) -> dict[str, Any]:
        return {
            "numpy": np.float32(0.5),
            "numpy_int": np.int64(3),
            "tensor": torch.tensor(0.25),
            "eval_named": 1.0,
            "text": "fine",
            "nested": {"one": np.float64(1.0)},
        }

    return {"compute_metrics": compute}


def unpacked(library: Library) -> dict[str, Any]:
    def compute(prediction: Any) -> dict[str, Any]:
        predictions, labels = prediction
        assert prediction[0] is predictions
        return {"error": float(np.abs(predictions - labels).mean())}

    return {"compute_metrics": compute}


def preprocessed(library: Library) -> dict[str, Any]:
    def preprocess(logits: Any, labels: Any) -> Any:
        first = logits[0] if isinstance(logits, tuple) else logits
        return first.round() - labels

    return {"compute_metrics": seen, "preprocess_logits_for_metrics": preprocess}


def batch_by_batch(library: Library) -> dict[str, Any]:
    kept: list[float] = []

    def compute(prediction: Any, compute_result: bool) -> dict[str, Any]:
        kept.append(float(prediction.predictions.sum()))
        if not compute_result:
            return {}
        figures = {
            "batches": len(kept),
            "sum": sum(kept),
            "kind": type(prediction.predictions).__name__,
        }
        kept.clear()
        return figures

    return {"compute_metrics": compute}


def evaluate(session: Session) -> None:
    session.results["evaluate"] = session.make().evaluate()


def predict(session: Session) -> None:
    session.results["predict"] = session.make().predict(rows(10, 3))


IN_TRAINING = [
    Case("metrics", EVALUATED, trainer=with_metrics, quick=True),
    Case("metrics unpacked", EVALUATED, trainer=unpacked),
    Case("metrics of many types", EVALUATED, trainer=numpy_metrics),
    Case("two outputs", EVALUATED, TwoOutputs, trainer=with_metrics),
    Case("dict of outputs", EVALUATED, DictRegression, trainer=with_metrics),
    Case("preprocessed", EVALUATED, trainer=preprocessed),
    Case("preprocessed, two outputs", EVALUATED, TwoOutputs, trainer=preprocessed),
    Case("batch by batch", EVALUATED | {"batch_eval_metrics": True}, trainer=batch_by_batch),
    Case("loss alone", EVALUATED | {"prediction_loss_only": True}, trainer=with_metrics),
    Case(
        "inputs and losses",
        EVALUATED | {"include_for_metrics": ["loss", "inputs"]},
        gpt2,
        texts(12),
        texts(6, seed=1),
        trainer=with_metrics,
    ),
    Case("losses", EVALUATED | {"include_for_metrics": ["loss"]}, trainer=with_metrics),
    Case(
        "brought to the host",
        EVALUATED | {"eval_accumulation_steps": 2},
        trainer=with_metrics,
    ),
    Case(
        "batches not joined",
        EVALUATED | {"eval_do_concat_batches": False},
        trainer=lambda library: {"compute_metrics": listed},
    ),
    Case("two sets", EVALUATED, eval=sets(one=5, two=9), trainer=with_metrics),
    Case("stream", EVALUATED, eval=lambda: Stream(9), trainer=with_metrics),
    Case("stream with a length", EVALUATED, eval=lambda: SizedStream(9), trainer=with_metrics),
    Case(
        "label names",
        EVALUATED | {"label_names": ["target"]},
        OtherNames,
        renamed(22),
        renamed(9, seed=1),
        trainer=with_metrics,
    ),
    Case("no labels", EVALUATED, eval=lambda: without_labels(9), trainer=with_metrics),
    Case(
        "two labels",
        EVALUATED | {"label_names": ["target", "weight"]},
        OtherNames,
        lambda: weighted(22),
        lambda: weighted(9),
        trainer=with_metrics,
    ),
    Case("one sample", EVALUATED, eval=samples(1), trainer=with_metrics),
    Case(
        "ignored keys",
        EVALUATED,
        DictRegression,
        trainer=with_metrics,
        script=lambda session: ignoring(session),
    ),
]
ALONE = [
    Case("evaluate", script=evaluate, quick=True),
    Case("evaluate with metrics", trainer=with_metrics, script=evaluate),
    Case("evaluate two sets", eval=sets(one=5, two=9), script=evaluate),
    Case(
        "evaluate in bf16",
        {"bf16_full_eval": True},
        gpt2,
        texts(12),
        texts(6, seed=1),
        trainer=with_metrics,
        script=evaluate,
    ),
    Case(
        "evaluate without labels",
        eval=lambda: without_labels(9),
        trainer=with_metrics,
        script=evaluate,
    ),
    Case("predict", script=predict, quick=True),
    Case("predict with metrics", trainer=with_metrics, script=predict),
    Case("predict a dict", model=DictRegression, script=predict),
    Case("predict two outputs", model=TwoOutputs, trainer=with_metrics, script=predict),
    Case("predict, batches not joined", {"eval_do_concat_batches": False}, script=predict),
    Case("predict, the loss alone", {"prediction_loss_only": True}, script=predict),
    Case("predict without labels", script=lambda session: unlabelled(session)),
    Case(
        "other data, other prefix", trainer=with_metrics, script=lambda session: elsewhere(session)
    ),
    Case(
        "predict texts of several lengths",
        {},
        gpt2,
        script=lambda session: texts_of_lengths(session),
    ),
]


def listed(prediction: Any) -> dict[str, Any]:
    sizes = [len(batch) for batch in prediction.predictions]
    return {"sizes": sizes, "labels": [len(batch) for batch in prediction.label_ids]}


def weighted(count: int) -> list[dict[str, Any]]:
    return [row | {"weight": torch.tensor(1.0 + i)} for i, row in enumerate(renamed(count)())]


def ignoring(session: Session) -> None:
    trainer = session.make()
    session.results["train"] = trainer.train(ignore_keys_for_eval=["hidden"])
    session.results["evaluate"] = trainer.evaluate(ignore_keys=["prediction"])
    session.results["predict"] = trainer.predict(rows(6, 5), ignore_keys=["hidden"])


def unlabelled(session: Session) -> None:
    session.results["predict"] = session.make().predict(without_labels(9))


def elsewhere(session: Session) -> None:
    trainer = session.make()
    session.results["one"] = trainer.evaluate(rows(7, 5), metric_key_prefix="final")
    session.results["several"] = trainer.evaluate({"a": rows(3, 6), "b": rows(6, 7)})
    session.results["predict"] = trainer.predict(rows(6, 8), metric_key_prefix="held_out")


def texts_of_lengths(session: Session) -> None:
    def pad(found: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in found)
        fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        return {
            name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in found])
            for name, value in fill.items()
        }

    trainer = session.make(per_device_eval_batch_size=2)
    trainer.data_collator = pad
    session.results["predict"] = trainer.predict(texts(9, padded=False)())


@each(IN_TRAINING)
def test_in_training(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(ALONE)
def test_alone(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
