"""A data loader that is one batch ahead, as the reference's is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from ...schemas.errors import DataError
from ..data_order import move
from ..rng import set_seed

_END = object()


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
        self.ahead = self._next(batches)
        moves = True
        while self.ahead is not None:
            batch = self.ahead
            if moves:
                batch = move(batch, self.device)
                # Where one is on the CPU as it comes, so are the others.
                moves = batch is not self.ahead or self.device.type != "cpu"
            self.ahead = self._next(batches)
            yield batch
        self.epoch += 1

    def _next(self, batches: Any) -> Any:
        try:
            batch = next(batches, _END)
            if batch is None:
                raise DataError(
                    "The collator gave None: return a dict of the model's arguments, and leave "
                    "samples that are not wanted out of the dataset."
                )
            return None if batch is _END else batch
        except BaseException:
            # The error holds on to what it came through: the workers would live as long as it.
            _end_workers(batches)
            self._iterator = None
            raise

    def end_workers(self) -> None:
        """Ends processes that persist over epochs; another pass starts new ones."""
        _end_workers(self._iterator)
        self._iterator = None


def _end_workers(batches: Any) -> None:
    end = getattr(batches, "_shutdown_workers", None)
    if end is not None:
        end()


def seed_worker(worker_id: int) -> None:
    """Seeds Python's random and numpy, too, in a process that loads data; torch has done its own.

    Args:
        worker_id: number of the process; what torch was seeded with differs by it already.
    """
    set_seed(torch.initial_seed() % 2**32)
    leave_group(worker_id)


def leave_group(worker_id: int) -> None:
    """Keeps signals from a process that loads data that are sent to the whole group of processes.

    Ctrl-C on a terminal and SIGTERM from `timeout` are: without its workers a training that waits
    for data could not end the step which it is to save. They end with the training process.

    Args:
        worker_id: number of the process.
    """
    os.setpgid(0, 0)
