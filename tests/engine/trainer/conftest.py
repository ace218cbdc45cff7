"""What the tests of the Trainer share: a tiny regression, a trainer around it, who watches it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepbus import Event, Subscriber, Trainer, TrainingArguments

NUM_SAMPLES = 24
BATCH = 4


class Regression(nn.Module):
    """A linear model with dropout that computes its own loss."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.inner = nn.Linear(8, 8)
        self.dropout = nn.Dropout(dropout)
        self.outer = nn.Linear(8, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.outer(self.dropout(self.inner(x)))
        if labels is None:
            return {"logits": logits}
        return {"loss": nn.functional.mse_loss(logits, labels), "logits": logits}


def samples(count: int = NUM_SAMPLES, seed: int = 1) -> list[dict[str, Tensor]]:
    """Samples of a sum to learn."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 8, generator=generator)
    return [{"x": x, "labels": x.sum(0, keepdim=True)} for x in inputs]


class Watcher(Subscriber):
    """Keeps every event that it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def of(self, *names: str) -> list[Any]:
        return [event for event in self.events if event.name in names]


def weights(trainer: Trainer) -> list[bytes]:
    """The bits of the model's weights."""
    return [bytes(p.detach().numpy().tobytes()) for p in trainer.model.parameters()]


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes trainers; all of a test write to one folder unless told otherwise."""

    def make(
        *,
        folder: str = "out",
        trainer_class: type[Trainer] = Trainer,
        model: nn.Module | None = None,
        given: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Trainer:
        quiet = {
            "use_cpu": True,
            "per_device_train_batch_size": BATCH,
            "num_train_epochs": 2,
            "learning_rate": 1e-2,
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
        }
        keywords: dict[str, Any] = {"train_dataset": samples(), **(given or {})}
        if fields.get("eval_strategy", "no") != "no":
            keywords.setdefault("eval_dataset", samples(8, seed=2))
        if "model_init" not in keywords:
            keywords["model"] = model if model is not None else Regression()
        args = TrainingArguments(str(tmp_path / folder), **{**quiet, **fields})
        return trainer_class(args=args, **keywords)

    return make
