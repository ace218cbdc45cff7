"""The loops that are compared do the same work: they train the same weights, bit for bit."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks import bridge_loops, engine_loops
from stepbus.engine.bench import loops
from stepbus.engine.bench.equal_work import Rows, Work, digest
from stepbus.engine.bench.loops import Loop, StepWatch

PEERS = {
    engine_loops.transformers_trainer: "transformers",
    engine_loops.lightning: "pytorch_lightning",
    engine_loops.ignite: "ignite",
    bridge_loops.transformers_bridged: "transformers",
    bridge_loops.lightning_bridged: "pytorch_lightning",
}
"""Loops that stand on a package; those of the extra `bench` are tested where it is installed."""
LOOPS: list[Any] = [
    loops.training_run,
    engine_loops.run,
    engine_loops.stepbus_trainer,
    *(loop for loop, package in PEERS.items() if importlib.util.find_spec(package) is not None),
]


class Counted(StepWatch):
    """Counts the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def train(loop: Loop, work: Work, **options: Any) -> str:
    """A sum over the weights that a loop trains."""
    model = loop(work, StepWatch(), **options)
    assert model is not None
    return digest(model)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("loop", LOOPS)
def test_each_loop_trains_the_weights_of_the_loop_by_hand(loop: Loop, accumulation: int) -> None:
    work = Work(width=8, steps=6, accumulation=accumulation, batch_size=4)
    assert train(loop, work) == train(loops.raw, work)


@pytest.mark.parametrize("loop", LOOPS[1:])
def test_logging_to_tensorboard_changes_no_weight(loop: Loop) -> None:
    work = Work(width=8, steps=6, batch_size=4)
    logged = train(loop, work, trackers=["tensorboard"], logging_steps=1)
    assert logged == train(loops.raw, work)


@pytest.mark.parametrize("left_out", ["clipping", "schedule", "weight decay", "order", "optimizer"])
def test_weights_tell_when_a_loop_leaves_something_out(
    left_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(width=8, steps=6, batch_size=4)
    whole = train(loops.raw, work)
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
    assert train(loops.raw, work) != whole


@pytest.mark.parametrize("loop", [loops.raw, *LOOPS])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_each_loop_says_where_each_of_its_steps_begins(loop: Loop, accumulation: int) -> None:
    watch = Counted()
    work = Work(width=8, steps=5, accumulation=accumulation, batch_size=4)
    loop(work, watch)
    assert watch.count == work.steps


def test_the_loop_by_hand_calls_what_people_add_to_it() -> None:
    losses: list[float] = []
    work = Work(width=8, steps=5, batch_size=4)
    add: Callable[[torch.Tensor], None] = lambda loss: losses.append(loss.item())  # noqa: E731
    loops.raw(work, StepWatch(), end_step=add)
    assert len(losses) == work.steps


def _constant(work: Work, optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def _without_decay(work: Work, model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=work.learning_rate, weight_decay=0.0, fused=True
    )


def _in_another_order(work: Work, watch: StepWatch) -> Any:
    rows = Rows(work, watch)
    return torch.utils.data.DataLoader(rows, batch_size=work.batch_size)
