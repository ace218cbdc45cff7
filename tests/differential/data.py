"""Training data in the forms that people have it in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from tests.differential.libraries import DATASETS

WIDTH = 4
VOCABULARY = 19


def rows(count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Inputs `x` and a number to be found in them."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, WIDTH, generator=generator)
    noise = torch.randn(count, 1, generator=generator)
    labels = inputs.sum(1, keepdim=True) + 0.1 * noise
    return [{"x": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]


def samples(count: int, seed: int = 0) -> Callable[[], Any]:
    """A list of dicts."""
    return lambda: rows(count, seed)


def classes(count: int, seed: int = 0, label: str = "labels") -> Callable[[], Any]:
    """A list of dicts with plain numbers: one of three classes."""
    return lambda: [
        {"x": row["x"].tolist(), label: int(row["labels"].item() > 0) + int(row["x"][0] > 0.5)}
        for row in rows(count, seed)
    ]


def sets(**counts: int) -> Callable[[], Any]:
    """Several evaluation sets by name."""
    return lambda: {
        name: rows(count, seed) for seed, (name, count) in enumerate(counts.items(), start=1)
    }


def nothing() -> None:
    """No data."""


class Rows(Dataset[Any]):
    """A dataset of dicts with `__getitem__` and `__len__`."""

    def __init__(self, count: int, **more: Any) -> None:
        self._rows = [row | more for row in rows(count)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]


class Stream(IterableDataset[Any]):
    """Rows one after the other; no length."""

    def __init__(self, count: int) -> None:
        self.rows = rows(count)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows)


class SizedStream(Stream):
    """A stream that knows its length."""

    def __len__(self) -> int:
        return len(self.rows)


class SeededStream(Stream):
    """A stream that is shuffled by the epoch."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(self.epoch))
        return (self.rows[index] for index in order.tolist())


class RandomRows(Rows):
    """Rows with noise from the global generator: the order of draws matters."""

    def __getitem__(self, index: int) -> Any:
        row = self._rows[index]
        return row | {"x": row["x"] + 0.1 * torch.randn(WIDTH)}


def tensors() -> Any:
    """A TensorDataset, whose samples are tuples."""
    found = rows(22)
    return TensorDataset(
        torch.stack([row["x"] for row in found]), torch.stack([row["labels"] for row in found])
    )


def pairs_to_dict(batch: list[Any]) -> dict[str, torch.Tensor]:
    """A collator for tuples."""
    inputs, labels = zip(*batch, strict=True)
    return {"x": torch.stack(inputs), "labels": torch.stack(labels)}


def table(count: int, **columns: Any) -> Callable[[], Any]:
    """A `datasets.Dataset` with further columns."""

    def make() -> Any:
        found = rows(count)
        return DATASETS.Dataset.from_dict(
            {
                "x": [row["x"].tolist() for row in found],
                "labels": [row["labels"].tolist() for row in found],
                **{
                    name: [value(index) for index in range(count)]
                    for name, value in columns.items()
                },
            }
        )

    return make


def texts(
    count: int, *, seed: int = 0, length: int | None = None, padded: bool = True
) -> Callable[[], Any]:
    """Token rows of different lengths, padded to 9 with labels of -100 unless told otherwise."""

    def make() -> list[dict[str, Any]]:
        generator = torch.Generator().manual_seed(seed)
        made = []
        for _ in range(count):
            size = length or int(torch.randint(3, 9, (1,), generator=generator))
            ids = torch.randint(1, VOCABULARY, (size,), generator=generator).tolist()
            gap = [0] * (9 - size) if padded else []
            made.append(
                {
                    "input_ids": ids + gap,
                    "attention_mask": [1] * size + gap,
                    "labels": ids + [-100] * len(gap),
                }
            )
        return made

    return make


def without_labels(count: int) -> list[dict[str, Any]]:
    """Rows of inputs alone."""
    return [{"x": row["x"]} for row in rows(count)]


def renamed(count: int, seed: int = 0) -> Callable[[], Any]:
    """Rows whose labels go by another name."""
    return lambda: [{"x": row["x"], "target": row["labels"]} for row in rows(count, seed)]


class Once(IterableDataset[Any]):
    """Can be gone through once."""

    def __init__(self, count: int) -> None:
        self._left = iter(rows(count))

    def __iter__(self) -> Iterator[Any]:
        return self._left


def text_table(count: int, length: str) -> Any:
    """A `datasets.Dataset` of padded token rows with their lengths in a column."""
    unpadded = [len(row["input_ids"]) for row in texts(count, padded=False)()]
    return DATASETS.Dataset.from_list(
        [row | {length: size} for row, size in zip(texts(count)(), unpadded, strict=True)]
    )
