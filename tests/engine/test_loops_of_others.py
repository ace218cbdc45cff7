"""Loops that others drive, around a run: they train the weights that they train without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from stepbus import EventBus, TrainingArguments, TrainingRun, Vote
from stepbus.bus.testing import Recorder
from stepbus.engine.checkpoint import list_checkpoints

EPOCHS, ACCUMULATION = 3, 2
STEPS = EPOCHS * 4


class Parts:
    """A model and its data, the same each time; the order of the data is the loader's own."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        inputs = torch.randn(64, 4)
        self.loader: Any = DataLoader(
            TensorDataset(inputs, (inputs**2).sum(1, keepdim=True)),
            batch_size=8,
            shuffle=True,
            generator=torch.Generator().manual_seed(7),
        )
        self.model: Any = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.optimizer: Any = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.schedule: Any = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.1, STEPS)

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.model(x), y)

    def step(self) -> None:
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()

    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.model.parameters()]


class Bare:
    """What a loop asks of a run, without one."""

    accumulation = ACCUMULATION

    def __init__(self) -> None:
        self.count = 0

    def steps(self, loader: Iterable[Any]) -> Iterator[Any]:
        for _ in range(EPOCHS):
            for batch in loader:
                self.count += 1
                yield batch

    @property
    def accumulating(self) -> bool:
        return bool(self.count % ACCUMULATION)

    def end_step(self, **values: Any) -> None:
        pass


Loop = Callable[[Parts, Any], None]


def by_accelerate(parts: Parts, run: Any) -> None:
    accelerator = parts.accelerator  # type: ignore[attr-defined]
    for batch in run.steps(parts.loader):
        loss = parts.loss(batch)
        accelerator.backward(loss / run.accumulation)
        if run.accumulating:
            continue
        norm = accelerator.clip_grad_norm_(parts.model.parameters(), 1.0)
        parts.step()
        run.end_step(loss=loss, grad_norm=norm)


def by_ignite(parts: Parts, run: Any) -> None:
    def step(engine: Engine, batch: Any) -> Tensor:
        loss = parts.loss(batch)
        (loss / run.accumulation).backward()
        if not run.accumulating:
            parts.step()
            run.end_step(loss=loss)
        return loss.detach()

    engine = Engine(step)
    iterations: list[int] = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: iterations.append(engine.state.iteration)
    )
    engine.run(run.steps(parts.loader), max_epochs=1)
    assert iterations == list(range(1, len(iterations) + 1))


def made(loop: Loop) -> Parts:
    parts = Parts()
    if loop is by_accelerate:
        accelerator = accelerate.Accelerator(cpu=True, step_scheduler_with_optimizer=False)
        prepared = accelerator.prepare(parts.model, parts.optimizer, parts.schedule, parts.loader)
        parts.model, parts.optimizer, parts.schedule, parts.loader = prepared
        parts.accelerator = accelerator  # type: ignore[attr-defined]
    return parts


def trained(loop: Loop, folder: Path, bus: EventBus, **changes: Any) -> tuple[Parts, TrainingRun]:
    parts = made(loop)
    args = TrainingArguments(
        str(folder),
        num_train_epochs=EPOCHS,
        gradient_accumulation_steps=ACCUMULATION,
        save_steps=5,
        report_to="none",
        **changes,
    )
    with TrainingRun(
        args,
        model=parts.model,
        optimizer=parts.optimizer,
        lr_scheduler=parts.schedule,
        bus=bus,
    ) as run:
        loop(parts, run)
    return parts, run


LOOPS = pytest.mark.parametrize("loop", [by_accelerate, by_ignite])


@LOOPS
def test_the_weights_are_those_of_the_loop_without_a_run(loop: Loop, tmp_path: Path) -> None:
    bare = made(loop)
    loop(bare, Bare())
    bus, recorder = EventBus(), Recorder()
    bus.subscribe("optimizer_step", "step_end", "train_end")(recorder)
    parts, _ = trained(loop, tmp_path, bus)
    for ours, theirs in zip(parts.weights(), bare.weights(), strict=True):
        assert torch.equal(ours, theirs)
    assert recorder.kinds == ["optimizer_step", "step_end"] * STEPS + ["train_end"]


@LOOPS
def test_it_goes_on_from_a_checkpoint_to_the_same_weights(loop: Loop, tmp_path: Path) -> None:
    whole, _ = trained(loop, tmp_path, EventBus())
    first = list_checkpoints(str(tmp_path))[0]
    assert first.name == "checkpoint-5"
    parts, run = trained(loop, tmp_path, EventBus(), resume_from_checkpoint=str(first))
    assert run.state.global_step == STEPS
    for ours, theirs in zip(parts.weights(), whole.weights(), strict=True):
        assert torch.equal(ours, theirs)


@LOOPS
def test_a_stop_that_is_voted_for_ends_it(loop: Loop, tmp_path: Path) -> None:
    bus = EventBus()

    @bus.subscribe("step_end", delivery="gate")
    def enough(event: Any) -> Vote | None:
        return Vote("stop", reason="it is enough") if event.step == 4 else None

    _, run = trained(loop, tmp_path, bus)
    assert run.summary is not None
    assert (run.summary.status, run.summary.reason) == ("stopped", "it is enough")
    assert run.state.global_step == 4
