"""What is trained on a device: a launch-bound model, and a GPT of 124M parameters in bf16."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader, Dataset

from stepbus.engine.bench.equal_work import Work
from stepbus.engine.bench.loops import StepWatch, TurnsOver, UndisplayedRun, run_arguments

from .engine_loops import trainer_arguments

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """Of a GPT and its batches."""

    layers: int
    heads: int
    width: int
    block: int
    vocabulary: int
    batch_size: int
    bf16: bool


SHAPES = {
    "launch-bound": Shape(8, 2, 64, 32, 256, 4, bf16=False),
    "124M": Shape(12, 12, 768, 1024, 50304, 8, bf16=True),
    "tiny": Shape(1, 1, 8, 8, 16, 2, bf16=False),
}
"""The GPT of 124M parameters is GPT-2's smallest; the launch-bound one has kernels of some us."""


class Block(nn.Module):
    """One layer: attention and a two-layer network, each behind a norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.LayerNorm(shape.width), nn.LayerNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.up = nn.Linear(shape.width, 4 * shape.width)
        self.down = nn.Linear(4 * shape.width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) to the same."""
        batch, time, width = x.shape
        q, k, v = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, time, width))
        down: Tensor = self.down(F.gelu(self.up(self.norm2(x))))
        return x + down


class GPT(nn.Module):
    """A decoder with its loss, with the names that a Trainer expects."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.places = nn.Embedding(shape.block, shape.width)
        self.blocks = nn.Sequential(*(Block(shape) for _ in range(shape.layers)))
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss for `inputs` and `labels`, both (batch, time)."""
        places = torch.arange(inputs.shape[1], device=inputs.device)
        x = self.blocks(self.tokens(inputs) + self.places(places))
        logits = self.head(self.norm(x))
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten())}


class Tokens(Dataset[Batch]):
    """Random tokens; tells whoever measures where each step begins."""

    def __init__(self, shape: Shape, steps: int, watch: StepWatch) -> None:
        generator = torch.Generator().manual_seed(7)
        size = (64, shape.block + 1)
        self._rows = torch.randint(shape.vocabulary, size, generator=generator)
        self._length = steps * shape.batch_size
        self._watch = watch

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Batch:
        row = self._rows[index % len(self._rows)]
        return {"inputs": row[:-1], "labels": row[1:]}

    def __getitems__(self, indices: list[int]) -> list[Batch]:
        self._watch()
        return [self[index] for index in indices]


def raw(work: Work, watch: StepWatch, *, kind: str, device: str) -> None:
    """The loop by hand."""
    task = _Task(work, watch, kind, device)
    total = torch.zeros((), device=device)
    for batch in task.loader():
        moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        loss, _ = task.step(moved)
        total += loss


def run(work: Work, watch: StepWatch, *, kind: str, device: str) -> None:
    """The same in stepbus's `TrainingRun`."""
    from stepbus import TrainingArguments

    task = _Task(work, watch, kind, device)
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(**run_arguments(work, folder))
        training = UndisplayedRun(
            args, model=task.model, optimizer=task.optimizer, lr_scheduler=task.schedule
        )
        with training, contextlib.suppress(TurnsOver):
            for batch in training.steps(task.loader()):
                loss, norm = task.step(batch)
                training.end_step(loss=loss, grad_norm=norm)


def stepbus_trainer(work: Work, watch: StepWatch, *, kind: str, device: str) -> None:
    """stepbus's `Trainer`."""
    import stepbus

    _by_trainer(stepbus, work, watch, kind, device)


def transformers_trainer(work: Work, watch: StepWatch, *, kind: str, device: str) -> None:
    """Hugging Face's `Trainer`, with its default look at each loss for NaN."""
    import transformers

    _by_trainer(transformers, work, watch, kind, device)


def _by_trainer(package: Any, work: Work, watch: StepWatch, kind: str, device: str) -> None:
    task = _Task(work, watch, kind, device)
    with tempfile.TemporaryDirectory() as folder:
        arguments = run_arguments(work, folder) | trainer_arguments(work)
        arguments |= {
            "per_device_train_batch_size": task.shape.batch_size,
            "use_cpu": device == "cpu",
            "bf16": task.shape.bf16,
            "logging_nan_inf_filter": True,
            "dataloader_pin_memory": device != "cpu",
        }
        trainer = package.Trainer(
            model=task.model,
            args=package.TrainingArguments(**arguments),
            train_dataset=Tokens(task.shape, work.steps, watch),
            optimizers=(task.optimizer, task.schedule),
        )
        trainer.remove_callback(package.PrinterCallback)
        trainer.train()


class _Task:
    """A model on its device, with what trains it."""

    def __init__(self, work: Work, watch: StepWatch, kind: str, device: str) -> None:
        torch.manual_seed(work.seed)
        self.shape = SHAPES[kind]
        self.model = GPT(self.shape).to(device)
        self.model.train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-4, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)
        self._work, self._watch, self._device = work, watch, device
        if device == "cuda":
            # What is still queued would run in the next loop's turn.
            watch.before_waiting = torch.cuda.synchronize

    def loader(self) -> Iterator[Batch]:
        """Batches on the host, pinned where that helps."""
        tokens = Tokens(self.shape, self._work.steps, self._watch)
        pinned = self._device != "cpu"
        batch_size = self.shape.batch_size
        return DataLoader(tokens, batch_size=batch_size, pin_memory=pinned)  # type: ignore[return-value]

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One optimizer step; loss and norm stay on the device."""
        with self._precision():
            loss = self.model(**batch)["loss"]
        loss.backward()
        norm = clip_grad_norm_(self.model.parameters(), self._work.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return loss.detach(), norm

    def _precision(self) -> AbstractContextManager[Any]:
        if self.shape.bf16:
            return torch.autocast(self._device, torch.bfloat16)
        return contextlib.nullcontext()
