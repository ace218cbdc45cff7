"""One training that every loop under comparison does alike: model, data, batches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate

Batch = dict[str, Tensor]
NUM_ROWS = 512
"""Different samples; the data repeats them until it is long enough for one epoch."""


@dataclass(frozen=True)
class Work:
    """What is trained, and how.

    AdamW decays the matrices and not the biases, the gradients are clipped, the learning rate falls
    linearly to 0, the data is shuffled by `seed`. One epoch has all `steps`.
    """

    width: int
    steps: int
    accumulation: int = 1
    batch_size: int = 16
    """Samples in a micro-batch."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 7

    @property
    def num_samples(self) -> int:
        """Samples in the epoch."""
        return self.steps * self.accumulation * self.batch_size


class Regressor(nn.Module):
    """Two layers and their loss, with the names that a Trainer expects."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, inputs: Tensor, labels: Tensor) -> Batch:
        """The loss and the predictions for `inputs` (batch, width) and `labels` (batch, 1)."""
        predicted = self.net(inputs)
        return {"loss": nn.functional.mse_loss(predicted, labels), "logits": predicted}


class Rows(Dataset[Batch]):
    """Samples, a micro-batch at a time; tells whoever measures where each step begins.

    Args:
        work: how many, how wide.
        on_step: called before the first micro-batch of each optimizer step is taken.
    """

    def __init__(self, work: Work, on_step: Callable[[], None] = lambda: None) -> None:
        generator = torch.Generator().manual_seed(work.seed)
        # Large labels: the gradients must be long enough for the clipping to matter.
        inputs = torch.randn(NUM_ROWS, work.width, generator=generator)
        self._rows: list[Batch] = [{"inputs": row, "labels": 9 * row[:1]} for row in inputs]
        self._work = work
        self._on_step = on_step
        self._taken = 0

    def __len__(self) -> int:
        return self._work.num_samples

    def __getitem__(self, index: int) -> Batch:
        return self._rows[index % NUM_ROWS]

    def __getitems__(self, indices: Sequence[int]) -> list[Batch]:
        if self._taken % self._work.accumulation == 0:
            self._on_step()
        self._taken += 1
        rows = self._rows
        return [rows[index % NUM_ROWS] for index in indices]


def make_model(work: Work) -> Regressor:
    """The model before training: the same for all."""
    torch.manual_seed(work.seed)
    return Regressor(work.width)


def make_loader(work: Work, on_step: Callable[[], None]) -> DataLoader[Batch]:
    """The loader of a hand-written loop; its order is that of a Trainer's with this `data_seed`."""
    rows = Rows(work, on_step)
    generator = torch.Generator().manual_seed(work.seed)
    return DataLoader(
        rows,
        batch_size=work.batch_size,
        sampler=RandomSampler(rows, generator=generator),
        collate_fn=default_collate,
    )


def make_optimizer(work: Work, model: nn.Module) -> torch.optim.AdamW:
    """Fused AdamW with two groups, as the Trainers make it."""
    named = list(model.named_parameters())
    groups = [
        {
            "params": [p for name, p in named if not name.endswith("bias")],
            "weight_decay": work.weight_decay,
        },
        {"params": [p for name, p in named if name.endswith("bias")], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=work.learning_rate, fused=True)


def make_schedule(work: Work, optimizer: torch.optim.Optimizer) -> LambdaLR:
    """From the learning rate linearly to 0."""
    return LambdaLR(optimizer, lambda step: max(0.0, 1 - step / work.steps))


def digest(model: nn.Module) -> str:
    """A sum over the weights: equal for equal bits."""
    sums = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        sums.update(name.encode())
        sums.update(value.numpy().tobytes())
    return sums.hexdigest()
