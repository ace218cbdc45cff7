"""The order of the data: from generators of its own, the same after a resume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from .ahead_batch import renewed, storable
from .rng import capture_rng, restore_rng


class DataOrder:
    """Starts each epoch of a loader so that its order depends on the seed and the epoch alone.

    A `DataLoader`, and a sampler of torch's, without a generator gets one for the length of the
    run, seeded `seed + epoch`, so that neither who listens nor what the model draws moves the
    data. One with a generator of the user's keeps it. Samplers, datasets and loaders with
    `set_epoch` are told the epoch. Checkpoints keep the users' generators, and the global ones, as
    they were when the epoch began, so that the same epoch can be begun again; workers that persist
    over epochs keep random states of their own, which none of this can bring back.

    Args:
        loader: what gives the batches.
        seed: of the run's own generator.
        lends: False leaves loaders and samplers without a generator as they are: they draw from
            the global one.
    """

    def __init__(self, loader: Iterable[Any], seed: int, *, lends: bool = True) -> None:
        self._lends = lends
        self._loader = loader
        self._seed = seed
        self._own = torch.Generator()
        self._lent_to: list[Any] = []
        self._users: list[torch.Generator] = []
        self._at_start: dict[str, Any] = {}
        self._in_epoch = False
        if isinstance(loader, DataLoader):
            self._take_over(loader)

    def _take_over(self, loader: DataLoader[Any]) -> None:
        samplers = [s for s in _samplers(loader) if isinstance(s, Sampler)]
        holders: list[Any] = [loader, *samplers]
        for holder in holders:
            generator = getattr(holder, "generator", self._own)
            if generator is None:
                if self._lends:
                    holder.generator = self._own
                    self._lent_to.append(holder)
            elif isinstance(generator, torch.Generator) and all(
                generator is not known for known in (self._own, *self._users)
            ):
                self._users.append(generator)

    def begin_epoch(self, epoch: int) -> Iterator[Any]:
        """An iterator over the epoch's batches, from its first."""
        self._at_start = self._now()
        self._in_epoch = True
        self._own.manual_seed(self._seed + epoch)
        dataset = getattr(self._loader, "dataset", None)
        for holder in (self._loader, *_samplers(self._loader), dataset):
            set_epoch = getattr(holder, "set_epoch", None)
            if callable(set_epoch):
                set_epoch(epoch)
        return iter(self._loader)

    def end_epoch(self) -> None:
        """Notes that the next epoch starts from the generators as they are now."""
        self._in_epoch = False

    def release(self) -> None:
        """Takes the run's own generator back, so that the loader is what it was."""
        for holder in self._lent_to:
            holder.generator = None

    def state_dict(self) -> dict[str, Any]:
        """The generators as they are at the start of the epoch that a resume begins with."""
        if not self._in_epoch:
            return self._now()
        return self._at_start | {"ahead": storable(getattr(self._loader, "ahead", None))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts the generators back, for the epoch to be begun again."""
        for generator, saved in zip(self._users, state["generators"], strict=False):
            generator.set_state(saved)
        restore_rng(state["rng"])

    def renew_ahead(self, state: dict[str, Any]) -> None:
        """Puts the batch that had been loaded ahead in place of the one that is now."""
        ahead = getattr(self._loader, "ahead", None)
        if ahead is not None and state.get("ahead") is not None:
            self._loader.ahead = renewed(ahead, state["ahead"])  # type: ignore[attr-defined]

    def _now(self) -> dict[str, Any]:
        generators = [generator.get_state() for generator in self._users]
        return {"generators": generators, "rng": capture_rng()}


def _samplers(loader: object) -> list[Any]:
    batch_sampler = getattr(loader, "batch_sampler", None)
    inner = getattr(batch_sampler, "sampler", None)
    found = [getattr(loader, "sampler", None), batch_sampler, inner]
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


def num_samples(batch: Any) -> int:
    """How many samples a batch has: the length of the first tensor in it."""
    if type(batch) is dict:
        for value in batch.values():
            if type(value) is torch.Tensor and value.ndim:
                return value.shape[0]
            return num_samples(value)
    if isinstance(batch, torch.Tensor):
        return batch.shape[0] if batch.ndim else 1
    if isinstance(batch, Mapping):
        return next((num_samples(value) for value in batch.values()), 0)
    if isinstance(batch, list | tuple):
        return num_samples(batch[0]) if batch else 0
    return 1


def _is_there(batch: dict[Any, Any], device: torch.device) -> bool:
    for value in batch.values():
        if not isinstance(value, torch.Tensor) or value.device != device:
            return False
    return True


def move(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on `device`, whatever it is nested in; waits for nothing.

    One whose tensors are there may come back as it is.
    """
    if type(batch) is dict and _is_there(batch, device):
        return batch
    if isinstance(batch, torch.Tensor):
        return batch if batch.device == device else batch.to(device, non_blocking=batch.is_pinned())
    if isinstance(batch, dict):
        moved = {key: move(value, device) for key, value in batch.items()}
        return moved if type(batch) is dict else type(batch)(moved)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(move(value, device) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(move(value, device) for value in batch)
    # What a tokenizer returns, and other containers that know how to move.
    to = getattr(batch, "to", None)
    return to(device) if callable(to) else batch
