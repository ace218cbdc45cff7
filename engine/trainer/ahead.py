"""A data loader that is one batch ahead, as the reference's is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..data_order import move
from ..rng import set_seed


class AheadLoader(DataLoader[Any]):
    """A loader that loads one batch ahead of the one it gives, on the device.

    So a collator that draws random numbers draws them where it does in the reference: before the
    model has drawn its own for the batch at hand. Each pass tells the sampler and the dataset,
    where they have `set_epoch`, which epoch it is, counting up by one.

    Args:
        dataset: what is loaded.
        device: where the batches are to be.
        **options: those of `DataLoader`.
    """

    def __init__(self, dataset: Any, device: torch.device, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.device = device
        self.epoch = 0
        self.ahead: Any = None
        """The batch that comes next, loaded already; None at the end."""

    def set_epoch(self, epoch: int) -> None:
        """Makes the next pass that of `epoch`."""
        self.epoch = epoch
        for part in (self.sampler, self.dataset):
            tell = getattr(part, "set_epoch", None)
            if callable(tell):
                tell(epoch)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        self.set_epoch(self.epoch)
        batches = super().__iter__()
        self.ahead = next(batches, None)
        while self.ahead is not None:
            batch = move(self.ahead, self.device)
            self.ahead = next(batches, None)
            yield batch
        self.epoch += 1


def seed_worker(worker_id: int) -> None:
    """Seeds Python's random and numpy, too, in a process that loads data; torch has done its own.

    Args:
        worker_id: number of the process; what torch was seeded with differs by it already.
    """
    set_seed(torch.initial_seed() % 2**32)
