"""The orders in which samples come: shuffled by seed and epoch, grouped by length."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any

import torch
from torch.utils.data import RandomSampler, Sampler, SequentialSampler

from ...schemas.errors import ArgumentError, DataError

__all__ = ["LengthGroupedSampler", "SeededSampler", "SequentialSampler", "seeded"]

_LARGEST_CHUNK = 50  # batches sorted together


class SeededSampler(RandomSampler):
    """Shuffles with a generator of its own, seeded `seed + epoch`.

    Neither dropout nor anything else that draws random numbers moves the order, and it takes none
    from others. Each pass counts the epoch up by one; `set_epoch` says which it is.

    Args:
        data_source: what has as many samples as are shuffled.
        seed: of epoch 0; None takes the seed that torch was last given.
        replacement: samples may come more than once.
        num_samples: how many come in an epoch; by default all.
    """

    def __init__(
        self,
        data_source: Sized,
        seed: int | None = None,
        *,
        replacement: bool = False,
        num_samples: int | None = None,
    ) -> None:
        super().__init__(data_source, replacement=replacement, num_samples=num_samples)
        self.seed = torch.initial_seed() if seed is None else seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Makes the next pass that of `epoch`."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator(device=torch.get_default_device())
        generator.manual_seed(self.seed + self.epoch)
        shuffled = RandomSampler(
            self.data_source, self.replacement, self._num_samples, generator=generator
        )
        # A list: going through generators costs more, a batch, than all else that stepbus does.
        return itertools.chain(list(shuffled), self._count_up())

    def _count_up(self) -> Iterator[int]:
        self.epoch += 1
        yield from ()


def seeded(sampler: Any, seed: int | None) -> Any:
    """A shuffling sampler of torch's as one that goes by seed and epoch; any other as it is.

    So it is with the reference, whatever generator torch's sampler was given. Subclasses with an
    order of their own keep it.
    """
    ours = isinstance(sampler, SeededSampler)
    if ours or not isinstance(sampler, RandomSampler):
        return sampler
    if type(sampler).__iter__ is not RandomSampler.__iter__:
        return sampler
    return SeededSampler(
        sampler.data_source,
        seed,
        replacement=sampler.replacement,
        num_samples=sampler._num_samples,
    )


class LengthGroupedSampler(Sampler[int]):
    """Puts samples of about the same length into a batch, with some randomness kept.

    Samples are shuffled, cut into chunks of up to 50 batches and sorted within each, longest
    first. The longest of all is the very first, so that what does not fit into memory fails at
    once.

    Args:
        batch_size: samples that are to be of about the same length.
        lengths: of all samples.
        generator: what shuffles; by default torch's global one.
    """

    def __init__(
        self,
        batch_size: int,
        lengths: Sequence[float],
        generator: torch.Generator | None = None,
    ) -> None:
        self.batch_size = batch_size
        self.lengths = list(lengths)
        self.generator = generator

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        lengths = self.lengths
        shuffled = torch.randperm(len(lengths), generator=self.generator).tolist()
        batches = min(max(len(lengths) // (self.batch_size * 4), 1), _LARGEST_CHUNK)
        size = batches * self.batch_size
        chunks = [
            sorted(shuffled[start : start + size], key=lengths.__getitem__, reverse=True)
            for start in range(0, len(shuffled), size)
        ]
        longest = max(chunks, key=lambda chunk: lengths[chunk[0]])
        chunks[0][0], longest[0] = longest[0], chunks[0][0]
        for chunk in chunks:
            yield from chunk


def lengths_of(dataset: Any, column: str, input_name: str) -> list[float]:
    """How long each sample is.

    Args:
        dataset: of dicts.
        column: where a `datasets.Dataset` may have the lengths.
        input_name: the input whose length counts where it has not.

    Raises:
        ArgumentError: the samples have no such input.
        DataError: it has no length in some sample.
    """
    columns = getattr(dataset, "column_names", None)
    if isinstance(columns, list) and column in columns:
        lengths = dataset[column]
        return lengths.tolist() if isinstance(lengths, torch.Tensor) else list(lengths)
    first = dataset[0]
    if not isinstance(first, Mapping) or input_name not in first:
        has = f"have {', '.join(map(str, first))}" if isinstance(first, Mapping) else "are no dicts"
        raise ArgumentError(
            f"train_sampling_strategy='group_by_length' goes by the length of {input_name!r}, and "
            f"the samples {has}: give the lengths in a column and its name in length_column_name, "
            "or choose another strategy."
        )
    try:
        return [len(sample[input_name]) for sample in dataset]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"train_sampling_strategy='group_by_length': a sample has no {input_name!r} with a "
            f"length ({error!r}): leave it out, or give the lengths in a column."
        ) from error
