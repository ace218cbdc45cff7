"""The order of the data: from generators of its own, the same after a resume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, RandomSampler


class DataOrder:
    """Starts each epoch of a loader so that its order depends on the seed and the epoch alone.

    A `DataLoader` (and its `RandomSampler`) without a generator gets one, seeded `seed + epoch`,
    so that neither who listens nor what the model draws moves the data. One with a generator of
    the user's keeps it; its state at the start of the epoch goes into checkpoints. Samplers,
    datasets and loaders with `set_epoch` are told the epoch.
    """

    def __init__(self, loader: Iterable[Any], seed: int) -> None:
        self._loader = loader
        self._seed = seed
        self._own = torch.Generator()
        self._users: list[torch.Generator] = []
        self._at_start: list[torch.Tensor] = []
        if isinstance(loader, DataLoader):
            self._take_over(loader)

    def _take_over(self, loader: DataLoader[Any]) -> None:
        holders: list[Any] = [loader]
        holders += [s for s in _samplers(loader) if isinstance(s, RandomSampler)]
        for holder in holders:
            if holder.generator is None:
                holder.generator = self._own
            elif holder.generator is not self._own:
                self._users.append(holder.generator)

    def begin_epoch(self, epoch: int) -> Iterator[Any]:
        """An iterator over the epoch's batches, from its first."""
        self._own.manual_seed(self._seed + epoch)
        for holder in (self._loader, *_samplers(self._loader), getattr(self._loader, "dataset", None)):
            set_epoch = getattr(holder, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)
        self._at_start = [generator.get_state() for generator in self._users]
        return iter(self._loader)

    def state_dict(self) -> dict[str, Any]:
        """The users' generators as they were when the epoch began."""
        return {"generators": list(self._at_start)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts the users' generators back to the start of the epoch to be resumed."""
        for generator, saved in zip(self._users, state["generators"], strict=False):
            generator.set_state(saved)


def _samplers(loader: object) -> list[Any]:
    batch_sampler = getattr(loader, "batch_sampler", None)
    found = [getattr(loader, "sampler", None), batch_sampler, getattr(batch_sampler, "sampler", None)]
    unique: list[Any] = []
    for sampler in found:
        if sampler is not None and all(sampler is not other for other in unique):
            unique.append(sampler)
    return unique


def num_batches(loader: Iterable[Any]) -> int | None:
    """How many batches an epoch has, or None where the loader cannot tell."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:
        return None


def move(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on `device`, whatever it is nested in; waits for nothing."""
    if isinstance(batch, torch.Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=batch.is_pinned())
    if isinstance(batch, dict):
        moved = {key: move(value, device) for key, value in batch.items()}
        return moved if type(batch) is dict else type(batch)(moved)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(move(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(move(value, device) for value in batch)
    return batch
