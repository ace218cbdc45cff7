"""Evaluations and predictions give what transformers' own Trainer gives, on the same models."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from stepbus.engine.metric_buffer import MetricBuffer
from stepbus.engine.trainer.evaluation import TrainerEvaluation
from stepbus.engine.trainer.predictions import EvalPrediction

transformers: Any = import_module("transformers")

BATCH = 4
SPEED = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")


class Host(TrainerEvaluation):
    """Our evaluation over the reference's loss and collator; notes what is logged and announced."""

    metrics = MetricBuffer()

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        for name in (
            "args model label_names can_return_loss compute_metrics preprocess_logits_for_metrics "
            "eval_dataset compute_loss compute_loss_context_manager optimizer _prepare_inputs"
        ).split():
            setattr(self, name, getattr(reference, name))
        self.told: list[tuple[str, Any]] = []

    def get_eval_dataloader(self, dataset: Any = None) -> Iterable[Any]:
        if isinstance(dataset, str):
            self.told.append(("asked for", dataset))
            dataset = self.eval_dataset[dataset]
        dataset = self.eval_dataset if dataset is None else dataset
        return DataLoader(dataset, BATCH, collate_fn=self._reference.data_collator)

    get_test_dataloader = get_eval_dataloader

    def _num_items_in_batch(self, batches: list[Any]) -> Any:
        return self._reference._get_num_items_in_batch(batches, torch.device("cpu"))

    def log(self, metrics: dict[str, Any]) -> None:
        metrics["epoch"] = 1.0
        self.told.append(("log", dict(metrics)))

    @contextlib.contextmanager
    def _evaluation_model(self) -> Iterator[nn.Module]:
        yield self.model

    @contextlib.contextmanager
    def _session(self, name: str) -> Iterator[Host]:
        yield self

    def evaluation_steps(self, loader: Iterable[Any]) -> Iterator[Any]:
        for batch in loader:
            yield batch
            self.told.append(("prediction_step", None))

    def announce(self, name: str, fields: dict[str, Any]) -> None:
        self.told.append((name, fields["metrics"]))

    def names(self) -> list[str]:
        return [name for name, _ in self.told]


Pair = tuple[Host, Any]
NewPair = Callable[..., Pair]


@pytest.fixture
def new_pair(tmp_path: Path) -> NewPair:
    """Makes our evaluation and the reference's Trainer around the same model."""

    def make(model: nn.Module, options: dict[str, Any] | None = None, **parts: Any) -> Pair:
        args = transformers.TrainingArguments(
            str(tmp_path), per_device_eval_batch_size=BATCH, report_to="none", use_cpu=True,
            disable_tqdm=True, seed=1, dataloader_pin_memory=False, **(options or {}),
        )  # fmt: skip
        reference = transformers.Trainer(model, args, **parts)
        reference.remove_callback(transformers.PrinterCallback)
        return Host(reference), reference

    return make


class Regression(nn.Module):
    """Gives a tuple: the loss where there are labels, what was predicted, and a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.inner, self.outer = nn.Linear(3, 5), nn.Linear(5, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> tuple[Any, ...]:
        hidden = self.inner(x).tanh()
        y = self.outer(hidden).squeeze(-1)
        if labels is None:
            return y, hidden
        return nn.functional.mse_loss(y, labels), y, hidden


def points(count: int = 10, labels: bool = True) -> list[dict[str, Any]]:
    torch.manual_seed(count)
    x = torch.randn(count, 3)
    return [{"x": row, "labels": row.sum()} if labels else {"x": row} for row in x]


class Stream(IterableDataset[Any]):
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


def texts(count: int = 10, **extra: Any) -> list[dict[str, Any]]:
    numbers = np.random.default_rng(count)
    rows = [numbers.integers(1, 30, numbers.integers(2, 9)).tolist() for _ in range(count)]
    return [{"input_ids": row, **{k: make(row) for k, make in extra.items()}} for row in rows]


def padded(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A collator that pads to the longest: labels with -100, all else with 0."""
    batch = {}
    for name, first in rows[0].items():
        if isinstance(first, int):
            batch[name] = torch.tensor([row[name] for row in rows])
            continue
        width, fill = max(len(row[name]) for row in rows), -100 if name == "labels" else 0
        batch[name] = torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows])
    return batch


def gpt2() -> nn.Module:
    torch.manual_seed(5)
    config = transformers.GPT2Config(vocab_size=32, n_positions=16, n_embd=16, n_layer=1, n_head=2)
    model: nn.Module = transformers.GPT2LMHeadModel(config)
    return model


def bert() -> nn.Module:
    torch.manual_seed(6)
    config = transformers.BertConfig(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=16, num_labels=3, output_hidden_states=True,
    )  # fmt: skip
    model: nn.Module = transformers.BertForSequenceClassification(config)
    return model


def digest(given: EvalPrediction) -> dict[str, Any]:
    """Figures that change with any number, shape or type that compute_metrics is given."""
    figures: dict[str, Any] = {}
    for position, element in enumerate(given):
        parts = element if isinstance(element, tuple | list) else [element]
        for place, part in enumerate(parts):
            if isinstance(part, tuple):
                part = part[0]
            values = np.asarray(part, dtype=np.float64)
            weights = np.arange(1, values.size + 1).reshape(values.shape)
            name = f"{position}_{place}_{'x'.join(map(str, values.shape))}_{part.dtype}"
            figures[name] = np.float64((values * weights).sum())
    return figures


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in metrics.items() if not k.endswith(SPEED) and k != "epoch"}


def assert_same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, tuple | list):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    else:
        assert ours == theirs


def assert_alike(pair: Pair, dataset: Any, **options: Any) -> dict[str, Any]:
    """Both evaluate and predict `dataset` alike; our metrics."""
    ours, reference = pair
    metrics = ours.evaluate(dataset, **options)
    expected = reference.evaluate(dataset, **options)
    assert without_times(metrics) == without_times(expected)
    assert list(without_times(metrics)) == list(without_times(expected))
    extra = set(expected) - set(metrics)
    # The reference's time for wrapping a model: nothing is wrapped here.
    assert all(name.endswith("model_preparation_time") for name in extra)
    if dataset is not None and not isinstance(dataset, dict):
        predicted, theirs = ours.predict(dataset), reference.predict(dataset)
        assert_same(predicted.predictions, theirs.predictions)
        assert_same(predicted.label_ids, theirs.label_ids)
        assert without_times(predicted.metrics or {}) == without_times(theirs.metrics)
    return metrics


GATHERING = [
    {},
    {"eval_accumulation_steps": 2},
    {"eval_do_concat_batches": False},
    {"eval_do_concat_batches": False, "eval_accumulation_steps": 1},
    {"include_for_metrics": ["inputs", "loss"]},
    {"prediction_loss_only": True},
]


@pytest.mark.parametrize("options", GATHERING, ids=str)
@pytest.mark.parametrize("rows", [points(10), points(8), Stream(points(9))])
def test_a_module_that_gives_a_tuple(new_pair: NewPair, rows: Any, options: Any) -> None:
    model = Regression()
    model.main_input_name = "x"  # type: ignore[assignment]
    # Losses in a list of arrays of several lengths are nothing that digest can read.
    metric = digest if options.get("eval_do_concat_batches", True) else lambda given: {"n": 1}
    assert_alike(new_pair(model, options, compute_metrics=metric), rows)


@pytest.mark.parametrize("options", GATHERING, ids=str)
def test_a_language_model_over_texts_of_all_lengths(new_pair: NewPair, options: Any) -> None:
    pair = new_pair(gpt2(), options, data_collator=padded)
    metrics = assert_alike(pair, texts(11, labels=list))
    assert metrics["eval_loss"] > 0


@pytest.mark.parametrize("ignore_keys", [None, [], ["hidden_states"]])
def test_a_classifier_with_hidden_states(new_pair: NewPair, ignore_keys: Any) -> None:
    rows = [
        {"input_ids": row["input_ids"] + [0] * (9 - len(row["input_ids"])), "labels": i % 3}
        for i, row in enumerate(texts(10))
    ]
    pair = new_pair(bert(), compute_metrics=digest, data_collator=padded)
    assert_alike(pair, rows, ignore_keys=ignore_keys)


def test_logits_are_reduced_before_they_are_gathered(new_pair: NewPair) -> None:
    pair = new_pair(
        gpt2(),
        compute_metrics=digest,
        data_collator=padded,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1) + (labels == -100),
    )
    assert_alike(pair, texts(7, labels=list))


@pytest.mark.parametrize("rows", [points(6, labels=False), Stream(points(6, labels=False))])
def test_without_labels_there_is_no_loss(new_pair: NewPair, rows: Any) -> None:
    metrics = assert_alike(new_pair(Regression(), compute_metrics=digest), rows)
    assert "eval_loss" not in metrics


def test_a_loss_without_labels(new_pair: NewPair) -> None:
    class Contrast(Regression):
        def forward(self, x: torch.Tensor, return_loss: bool = True) -> dict[str, Any]:  # type: ignore[override]
            y = self.inner(x)
            return {"loss": (y @ y.T).mean(), "embeds": y, "nested": (y, y + 1)}

    pair = new_pair(Contrast(), compute_metrics=lambda given: {"labels": len(given.label_ids)})
    assert pair[0].can_return_loss
    assert pair[0].label_names == []
    metrics = assert_alike(pair, points(6, labels=False))
    assert metrics["eval_labels"] == 0
    assert metrics["eval_loss"] > 0


def test_labels_that_the_loss_takes_out_of_the_inputs(new_pair: NewPair) -> None:
    pair = new_pair(gpt2(), {"label_smoothing_factor": 0.1}, data_collator=padded)
    assert pair[0].predict(texts(5, labels=list)).label_ids is not None
    assert_alike(pair, texts(5, labels=list))


def test_several_sets_of_the_trainers_own(new_pair: NewPair) -> None:
    sets = {"a": points(5), "b": Stream(points(3))}
    ours, _ = pair = new_pair(Regression(), eval_dataset=sets, compute_metrics=digest)
    metrics = assert_alike(pair, None)

    assert {"eval_a_loss", "eval_b_loss"} <= set(metrics)
    per_set = ["asked for", "prediction_step", "log", "evaluate"]
    assert ours.names() == [per_set[0], per_set[1], *per_set[1:], *per_set]


def test_several_sets_that_are_given(new_pair: NewPair) -> None:
    pair = new_pair(Regression(), compute_metrics=digest)
    metrics = assert_alike(pair, {"c": points(5)}, metric_key_prefix="held_out")
    assert "held_out_c_loss" in metrics
    assert "asked for" not in pair[0].names()


@pytest.mark.parametrize("rows", [points(10), Stream(points(10)), points(8), Stream(points(8))])
@pytest.mark.parametrize("asked_for", [[], ["inputs", "loss"]])
def test_metrics_by_batch_know_the_last_one(
    new_pair: NewPair, rows: Any, asked_for: list[str]
) -> None:
    calls: list[Any] = []

    def metric(given: EvalPrediction, compute_result: bool) -> dict[str, Any]:
        sizes = [
            {name: tuple(value.shape) for name, value in part.items()}
            if isinstance(part, dict)
            else [tuple(value.shape) for value in (part if isinstance(part, tuple) else [part])]
            for part in given
        ]
        calls.append((sizes, given.losses, compute_result))
        return {"batches": torch.tensor(len(calls))} if compute_result else {}

    options = {"batch_eval_metrics": True, "include_for_metrics": asked_for}
    model = Regression()
    model.main_input_name = "x"  # type: ignore[assignment]
    ours, reference = new_pair(model, options, compute_metrics=metric)
    results = []
    for evaluate in (ours.evaluate, reference.evaluate, ours.predict, reference.predict):
        calls.clear()
        result: Any = evaluate(rows)
        metrics = result if isinstance(result, dict) else result.metrics
        results.append((without_times(metrics), str(calls), [last for *_, last in calls]))

    assert results[0] == results[1]
    assert results[2] == results[3]
    assert results[0][2] == [False] * (len(results[0][2]) - 1) + [True]
    assert results[0][0]["eval_batches"] == len(results[0][2])
    assert_same(ours.predict(rows).predictions, reference.predict(rows).predictions)


def test_speed_counts_samples_and_nominal_steps(new_pair: NewPair) -> None:
    ours, _ = new_pair(Regression())
    metrics = ours.evaluate(points(9))
    ratio = metrics["eval_samples_per_second"] / metrics["eval_steps_per_second"]
    assert ratio == pytest.approx(9 / 3, rel=1e-3)
