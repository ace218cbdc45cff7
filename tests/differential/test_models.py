"""Models in their several shapes, and how their losses are put together over micro-batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.differential.case import Case, Outcome
from tests.differential.data import VOCABULARY, renamed, texts
from tests.differential.grouping import each
from tests.differential.libraries import Library
from tests.differential.models import (
    DictRegression,
    Frozen,
    LossKeywords,
    Normalised,
    OtherNames,
    RefusesLossKeywords,
    Regression,
    TwoOutputs,
    adapted,
    classifier,
    gpt2,
    tokenizer,
)

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2}
GROUPS: dict[str, Any] = {"gradient_accumulation_steps": 4}
TEXT: dict[str, Any] = {"train": texts(22), "eval": texts(10, seed=1)}


def loss_of(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    total = F.smooth_l1_loss(outputs[0], labels, reduction="sum")
    return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


def own_loss(library: Library) -> dict[str, Any]:
    return {"compute_loss_func": loss_of}


SHAPES = [
    Case("tuple", EVALUATED, quick=True),
    Case("tuple of three", EVALUATED, TwoOutputs),
    Case("dict", EVALUATED | GROUPS, DictRegression),
    Case("strong dropout, evaluations in between", EVALUATED, lambda: Regression(0.5)),
    Case(
        "strong dropout, an evaluation at each step",
        {"eval_strategy": "steps", "eval_steps": 1, "gradient_accumulation_steps": 2},
        lambda: Regression(0.5),
    ),
    Case("batch norm", EVALUATED, Normalised),
    Case("a frozen part", EVALUATED, Frozen),
    Case(
        "other names of labels",
        EVALUATED | {"label_names": ["target"]},
        OtherNames,
        renamed(22),
        renamed(10, seed=1),
    ),
    Case("keywords of the loss", EVALUATED | GROUPS, LossKeywords, quick=True),
    Case("keywords of the loss, no accumulation", EVALUATED, LossKeywords),
    Case("keywords of the loss refused", EVALUATED | GROUPS, RefusesLossKeywords),
    Case(
        "keywords of the loss, tokens not averaged",
        EVALUATED | GROUPS | {"average_tokens_across_devices": False},
        LossKeywords,
    ),
]
OWN_LOSSES = [
    Case("compute_loss_func", EVALUATED, trainer=own_loss),
    Case("compute_loss_func, accumulation 4", EVALUATED | GROUPS, trainer=own_loss, quick=True),
    Case("compute_loss_func, keywords", EVALUATED | GROUPS, LossKeywords, trainer=own_loss),
]
TRANSFORMERS = [
    Case("GPT-2", EVALUATED, gpt2, **TEXT),
    Case("GPT-2, accumulation 4", EVALUATED | GROUPS, gpt2, quick=True, **TEXT),
    Case(
        "GPT-2, no dropout",
        GROUPS,
        lambda: gpt2(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
        **TEXT,
    ),
    Case("GPT-2, bf16", EVALUATED | GROUPS | {"bf16": True}, gpt2, **TEXT),
    Case("GPT-2, saved", GROUPS | {"save_strategy": "epoch"}, gpt2, **TEXT),
    Case(
        "GPT-2, label smoothing", EVALUATED | GROUPS | {"label_smoothing_factor": 0.1}, gpt2, **TEXT
    ),
    Case(
        "GPT-2, activation checkpointing",
        GROUPS | {"activation_checkpointing": True},
        gpt2,
        **TEXT,
    ),
    Case(
        "GPT-2, tokens counted",
        GROUPS | {"include_num_input_tokens_seen": "all"},
        gpt2,
        **TEXT,
    ),
    Case(
        "GPT-2, tokens but padding counted",
        GROUPS | {"include_num_input_tokens_seen": "non_padding", "logging_steps": 2},
        gpt2,
        **TEXT,
    ),
    Case(
        "GPT-2, tokens counted and saved",
        {"include_num_input_tokens_seen": True, "save_strategy": "epoch"},
        gpt2,
        **TEXT,
    ),
    Case(
        "GPT-2, predictions gathered",
        EVALUATED,
        gpt2,
        trainer=lambda library: {"compute_metrics": _accuracy},
        **TEXT,
    ),
    Case(
        "GPT-2, padded to its batch",
        EVALUATED | GROUPS,
        gpt2,
        texts(14, padded=False),
        texts(6, seed=1, padded=False),
        trainer=lambda library: {"data_collator": _pad, "compute_metrics": _accuracy},
    ),
]
WITH_TOKENIZER = [
    Case(
        "BERT, padded by its tokenizer",
        EVALUATED | GROUPS | {"save_strategy": "epoch"},
        classifier,
        lambda: _sentences(22, padded=False),
        lambda: _sentences(10, seed=1, padded=False),
        trainer=lambda library: {"processing_class": tokenizer(), "compute_metrics": _mean},
    ),
    Case(
        "GPT-2, tokens but padding counted by the tokenizer",
        {"include_num_input_tokens_seen": "non_padding"},
        gpt2,
        lambda: [{k: v for k, v in row.items() if k != "attention_mask"} for row in texts(12)()],
        trainer=lambda library: {"processing_class": tokenizer()},
    ),
]
ADAPTERS = [
    Case("adapter", EVALUATED | GROUPS | {"save_strategy": "epoch"}, adapted, **TEXT),
    Case(
        "adapter, best",
        EVALUATED | {"save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True},
        adapted,
        **TEXT,
    ),
]
CLASSIFIERS = [
    Case(
        f"BERT{', smoothed' if smoothing else ''}",
        EVALUATED | GROUPS | {"label_smoothing_factor": smoothing},
        classifier,
        lambda: _sentences(22),
        lambda: _sentences(10, seed=1),
    )
    for smoothing in (0, 0.2)
]
PRECISION = [
    Case("bf16", EVALUATED | {"bf16": True}, quick=True),
    Case("bf16, accumulation 4", EVALUATED | GROUPS | {"bf16": True}),
    Case(
        "bf16, predictions",
        EVALUATED | {"bf16": True},
        trainer=lambda library: {"compute_metrics": _mean},
    ),
    Case("bf16 evaluations", EVALUATED | {"bf16_full_eval": True}),
]


def _accuracy(prediction: Any) -> dict[str, float]:
    guessed = prediction.predictions[..., :-1, :].argmax(-1)
    wanted = prediction.label_ids[..., 1:]
    return {"accuracy": float((guessed == wanted)[wanted != -100].mean())}


def _mean(prediction: Any) -> dict[str, float]:
    return {"mean": float(prediction.predictions.mean())}


def _pad(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in rows])
        for name, value in fill.items()
    }


def _sentences(count: int, seed: int = 0, padded: bool = True) -> list[dict[str, Any]]:
    rows = texts(count, seed=seed, padded=padded)()
    return [row | {"labels": sum(row["input_ids"]) % 3} for row in rows]


@each(SHAPES)
def test_shapes(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(OWN_LOSSES)
def test_own_losses(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(TRANSFORMERS)
def test_transformers_models(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(WITH_TOKENIZER)
def test_tokenizers(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(ADAPTERS)
def test_adapters(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(CLASSIFIERS)
def test_classifiers(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(PRECISION)
def test_precision(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@pytest.mark.slow
def test_first_loss_of_a_language_model(check: Callable[[Case], Outcome]) -> None:
    """An untrained model's loss is that of guessing, whatever the padding and accumulation."""
    outcome = check(Case("first loss", GROUPS | {"learning_rate": 0.0}, gpt2, **TEXT))
    assert outcome.history[0]["loss"] == pytest.approx(math.log(VOCABULARY), rel=0.2)


@pytest.mark.slow
def test_compiled(check: Callable[[Case], Outcome]) -> None:
    arguments = {"torch_compile": True, "torch_compile_backend": "eager", "max_steps": 3}
    check(Case("compiled", EVALUATED | arguments))
