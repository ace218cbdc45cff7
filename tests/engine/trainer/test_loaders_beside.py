"""Loaders give the reference's batches and leave its random numbers, epoch by epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from stepbus import TrainingArguments
from stepbus.engine.trainer.collators import default_data_collator
from tests.engine.trainer.loading_alone import Model, Ours

transformers: Any = import_module("transformers")
datasets: Any = import_module("datasets")


def pair(folder: Path, given: dict[str, Any], **options: Any) -> Iterator[Any]:
    """Our part and the reference's Trainer over the same data, each made when it is asked for."""
    options = {"output_dir": str(folder), "use_cpu": True, "report_to": "none", **options}
    options = {"per_device_train_batch_size": 4, "per_device_eval_batch_size": 3, **options}
    yield Ours(TrainingArguments(**options), **given)
    # With pinned memory torch warns on machines without an accelerator.
    args = transformers.TrainingArguments(dataloader_pin_memory=False, **options)
    yield transformers.Trainer(Model(), args, **given)


def epochs(loader: Any, *, count: int = 2) -> list[Any]:
    """The batches of each epoch, and the generators' states after it."""
    seen: list[Any] = []
    for _ in range(count):
        for batch in loader:
            seen.append({name: value.tolist() for name, value in batch.items()})
            seen.append(torch.rand(1).item())  # what the model's dropout would draw
        seen.append(torch.get_rng_state().tolist())
    return seen


def samples(size: int = 26) -> list[dict[str, Any]]:
    rows = random.Random(3)
    return [
        {
            "input_ids": [i] * 5,
            "label": i % 2,
            "other": i,
            "length": rows.randint(1, 9),
        }
        for i in range(size)
    ]


class Indexed(Dataset[Any]):
    """Draws a random number for each sample, and hears of the epoch."""

    def __init__(self, size: int = 26) -> None:
        self.size = size
        self.epoch = -1

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return {"input_ids": torch.rand(2), "labels": index + 100 * self.epoch}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class Stream(IterableDataset[Any]):
    epoch = -1

    def __iter__(self) -> Iterator[Any]:
        for i in range(11):
            yield {"input_ids": torch.rand(2), "labels": i + 100 * self.epoch, "other": "x"}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def noisy(features: list[Any]) -> Any:
    """As collators for masked language models do: random numbers for each batch."""
    return default_data_collator(features) | {"labels": torch.rand(len(features))}


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "samples": (lambda: {"train_dataset": samples()}, {}),
    "data_seed": (lambda: {"train_dataset": samples()}, {"data_seed": 7, "seed": 3}),
    "drop_last": (lambda: {"train_dataset": samples()}, {"dataloader_drop_last": True}),
    "sequential": (
        lambda: {"train_dataset": samples()},
        {"train_sampling_strategy": "sequential"},
    ),
    "table": (lambda: {"train_dataset": datasets.Dataset.from_list(samples())}, {}),
    "table in torch's format": (
        lambda: {"train_dataset": datasets.Dataset.from_list(samples()).with_format("torch")},
        {},
    ),
    "random numbers in samples": (lambda: {"train_dataset": Indexed()}, {}),
    "random numbers in batches": (
        lambda: {"train_dataset": samples(), "data_collator": noisy},
        {},
    ),
    "stream": (lambda: {"train_dataset": Stream()}, {"max_steps": 5}),
    "table as a stream": (
        lambda: {
            "train_dataset": datasets.Dataset.from_list(
                [{"input_ids": [i], "label": i} for i in range(9)]
            ).to_iterable_dataset()
        },
        {"max_steps": 5},
    ),
    "all columns": (
        lambda: {"train_dataset": [{"z": i, "input_ids": i} for i in range(9)]},
        {"remove_unused_columns": False},
    ),
    "groups": (
        lambda: {
            "train_dataset": [{"input_ids": [i]} for i in range(3)]
            + [{"input_ids": [i, i]} for i in range(40)],
            "data_collator": lambda rows: {"n": torch.tensor([len(r["input_ids"]) for r in rows])},
        },
        {"train_sampling_strategy": "group_by_length", "gradient_accumulation_steps": 2},
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_training_batches_and_random_numbers_are_the_reference_s(kind: str, tmp_path: Path) -> None:
    make, options = CASES[kind]
    seen = [epochs(t.get_train_dataloader()) for t in pair(tmp_path, make(), **options)]
    assert len(seen[0]) > 4
    assert seen[0] == seen[1]


@pytest.mark.parametrize("kind", CASES)
def test_batches_to_evaluate_and_random_numbers_are_the_reference_s(
    kind: str, tmp_path: Path
) -> None:
    make, options = CASES[kind]
    given = make()
    given["eval_dataset"] = given.pop("train_dataset")
    seen = []
    for trainer in pair(tmp_path, given, **options):
        torch.manual_seed(5)
        seen.append(epochs(trainer.get_eval_dataloader()))
        seen[-1] += epochs(trainer.get_test_dataloader(given["eval_dataset"]), count=1)
    assert seen[0] == seen[1]


def test_an_epoch_that_is_told_is_the_reference_s(tmp_path: Path) -> None:
    seen = []
    for trainer in pair(tmp_path, {"train_dataset": Indexed()}):
        loader = trainer.get_train_dataloader()
        next(iter(loader))
        loader.set_epoch(4)
        seen.append(epochs(loader))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("persistent", [False, True])
def test_batches_of_loading_processes_are_the_reference_s(persistent: bool, tmp_path: Path) -> None:
    options = {"dataloader_num_workers": 2, "dataloader_persistent_workers": persistent}
    for given in (
        {"train_dataset": Drawing()},
        {"eval_dataset": Drawing()},
        {"train_dataset": Stream()},
    ):
        seen = []
        for trainer in pair(tmp_path, given, **options, dataloader_prefetch_factor=3, max_steps=5):
            torch.manual_seed(5)
            training = "train_dataset" in given
            loader = trainer.get_train_dataloader() if training else trainer.get_eval_dataloader()
            seen.append(epochs(loader))
        assert seen[0] == seen[1]


class Drawing(Dataset[Any]):
    def __len__(self) -> int:
        return 13

    def __getitem__(self, index: int) -> Any:
        drawn = [torch.rand(1).item(), random.random(), np.random.rand()]
        return {"input_ids": drawn, "labels": index}


def test_samples_are_counted_as_the_reference_counts_them(tmp_path: Path) -> None:
    counts = []
    for trainer in pair(tmp_path, {"train_dataset": samples()}):
        loaders = [trainer.get_train_dataloader(), SizedOnly()]
        counts.append([trainer.num_examples(loader) for loader in loaders])
        with pytest.raises(TypeError):
            trainer.num_examples(DataLoader(Stream()))
    assert counts[0] == counts[1] == [26, 12]


class SizedOnly:
    def __len__(self) -> int:
        return 3
