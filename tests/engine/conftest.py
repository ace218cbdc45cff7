"""What the tests of a run share: a tiny model in the hand-written loop, and who watches it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from stepbus import Event, EventBus, Subscriber, TrainingArguments, TrainingRun
from stepbus.engine.scalars.accelerators import KINDS
from tests.engine.slow_device import SlowDevice, slow_device

NUM_SAMPLES = 24
BATCH = 4


class Recorder(Subscriber):
    """Keeps every event that it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def of(self, *names: str) -> list[Any]:
        return [event for event in self.events if event.name in names]


class Loop:
    """The hand-written loop around a tiny model with dropout, and what came of it."""

    def __init__(self, output_dir: Path) -> None:
        self.output_dir = output_dir
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        inputs = torch.randn(NUM_SAMPLES, 8)
        targets = inputs.sum(1, keepdim=True)
        self.samples = [{"x": x, "y": y} for x, y in zip(inputs, targets, strict=True)]
        self.loader: Any = DataLoader(self.samples, batch_size=BATCH, shuffle=True)  # type: ignore[arg-type]
        self.model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.2), nn.Linear(8, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda s: 1 / (1 + s))
        self.recorder = Recorder()
        self.losses: list[float] = []
        self.grad_norms: list[float] = []
        self.run: TrainingRun
        self.in_step: Callable[[Loop], object] = lambda loop: None
        """Called in each step, before `end_step`."""
        self.in_evaluation: Callable[[Loop], object] = lambda loop: None

    def arguments(self, **fields: Any) -> TrainingArguments:
        quiet = {"save_strategy": "no", "logging_strategy": "no", "num_train_epochs": 2}
        return TrainingArguments(str(self.output_dir), **{**quiet, **fields})

    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        losses = []
        with torch.no_grad():
            for batch in self.run.evaluation_steps(DataLoader(self.samples, BATCH)):  # type: ignore[arg-type]
                losses.append(nn.functional.mse_loss(self.model(batch["x"]), batch["y"]).item())
                self.in_evaluation(self)
        return {"loss": sum(losses) / len(losses)}

    def train(
        self,
        *,
        bus: EventBus | None = None,
        callbacks: Iterable[Any] = (),
        evaluate: Any = None,
        attach: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Loop:
        evaluating = fields.get("eval_strategy", "no") != "no"
        with TrainingRun(
            self.arguments(**fields),
            model=self.model,
            optimizer=self.optimizer,
            lr_scheduler=self.scheduler,
            evaluate=evaluate or (self.evaluate if evaluating else None),
            callbacks=[self.recorder, *callbacks],
            bus=bus,
        ) as self.run:
            for name, thing in (attach or {}).items():
                self.run.attach(name, thing)
            self.steps()
        return self

    def steps(self) -> None:
        run, total = self.run, 0.0
        for batch in run.steps(self.loader):
            loss = nn.functional.mse_loss(self.model(batch["x"]), batch["y"]) / run.accumulation
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
            if run.accumulating:
                continue
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            self.in_step(self)
            self.losses.append(total)
            self.grad_norms.append(norm.item())
            run.end_step(loss=total, grad_norm=norm)
            total = 0.0

    def weights(self) -> list[bytes]:
        return [bytes(p.detach().numpy().tobytes()) for p in self.model.parameters()]

    @property
    def steps_done(self) -> int:
        return self.run.state.global_step

    def verdicts(self) -> list[Any]:
        return self.recorder.of("verdict")

    def saved_steps(self) -> list[int]:
        return [event.step for event in self.recorder.of("save")]


@pytest.fixture
def new_loop(tmp_path: Path) -> Callable[..., Loop]:
    """Makes loops; all of a test write to one folder unless told otherwise."""

    def make(name: str = "out") -> Loop:
        return Loop(tmp_path / name)

    return make


@pytest.fixture
def loop(new_loop: Callable[..., Loop]) -> Loop:
    """One loop that has not been run."""
    return new_loop()


@pytest.fixture
def device() -> Iterator[SlowDevice]:
    """A slow accelerator, on which scalars of the tests can be."""
    with slow_device(KINDS) as made:
        yield made
