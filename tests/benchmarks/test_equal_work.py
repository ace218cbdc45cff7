"""The loops that are compared do the same work: they train the same weights, bit for bit."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from benchmarks import loops
from benchmarks.equal_work import Rows, Work, digest

TRAINERS = [
    "TrainingRun",
    "stepbus.Trainer",
    pytest.param(
        "transformers.Trainer",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
        ),
    ),
]


def train(loop: str, work: Work) -> str:
    """A sum over the weights that a loop trains."""
    return digest(loops.LOOPS[loop](work, lambda: None))


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("loop", TRAINERS)
def test_each_loop_trains_the_weights_of_the_loop_by_hand(loop: str, accumulation: int) -> None:
    work = Work(width=8, steps=6, accumulation=accumulation, batch_size=4)
    assert train(loop, work) == train("raw", work)


@pytest.mark.parametrize("left_out", ["clipping", "schedule", "weight decay", "order", "optimizer"])
def test_weights_tell_when_a_loop_leaves_something_out(
    left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(width=8, steps=6, batch_size=4)
    whole = train("raw", work)
    if left_out == "clipping":
        monkeypatch.setattr(loops, "clip_grad_norm_", lambda *_: None)
    elif left_out == "schedule":
        monkeypatch.setattr(loops, "make_schedule", _constant)
    elif left_out == "weight decay":
        monkeypatch.setattr(loops, "make_optimizer", _without_decay)
    elif left_out == "order":
        monkeypatch.setattr(loops, "make_loader", _in_another_order)
    else:
        monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_: None)
    assert train("raw", work) != whole


@pytest.mark.parametrize("loop", ["raw", *TRAINERS])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_each_loop_says_where_each_of_its_steps_begins(loop: str, accumulation: int) -> None:
    begun: list[int] = []
    work = Work(width=8, steps=5, accumulation=accumulation, batch_size=4)
    loops.LOOPS[loop](work, lambda: begun.append(1))
    assert len(begun) == work.steps


def _constant(work: Work, optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def _without_decay(work: Work, model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=work.learning_rate, weight_decay=0.0, fused=True
    )


def _in_another_order(work: Work, on_step: Any) -> Any:
    rows = Rows(work, on_step)
    return torch.utils.data.DataLoader(rows, batch_size=work.batch_size)
