"""Loaders are made as the arguments say; data that cannot be loaded is refused by name."""

from __future__ import annotations

import random
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler

from stepbus import ArgumentError, DataError, TrainingArguments
from tests.engine.trainer.loading_alone import Ours

datasets: Any = import_module("datasets")


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


class Stream(IterableDataset[Any]):
    epoch = -1

    def __iter__(self) -> Iterator[Any]:
        for i in range(11):
            yield {"input_ids": torch.rand(2), "labels": i + 100 * self.epoch, "other": "x"}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def alone(folder: Path, options: dict[str, Any] | None = None, **given: Any) -> Ours:
    return Ours(TrainingArguments(str(folder), use_cpu=True, **(options or {})), **given)


def test_the_options_of_the_arguments_reach_the_loader(tmp_path: Path) -> None:
    options = {
        "dataloader_num_workers": 2,
        "dataloader_persistent_workers": True,
        "dataloader_prefetch_factor": 5,
        "dataloader_multiprocessing_context": "spawn",
        "dataloader_in_order": False,
        "dataloader_drop_last": True,
    }
    loader = alone(tmp_path, options, train_dataset=samples()).get_train_dataloader()
    assert isinstance(loader, DataLoader)
    assert (loader.num_workers, loader.persistent_workers, loader.prefetch_factor) == (2, True, 5)
    assert (loader.in_order, loader.drop_last, loader.batch_size) == (False, True, 8)
    assert loader.multiprocessing_context.get_start_method() == "spawn"


def test_the_batch_size_of_training_is_the_one_that_was_found(tmp_path: Path) -> None:
    trainer = alone(tmp_path, train_dataset=samples())
    trainer._train_batch_size = 2
    assert trainer.get_train_dataloader().batch_size == 2


def test_loaders_of_persistent_processes_are_made_once_for_each_dataset(tmp_path: Path) -> None:
    options = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    named = {"a": samples(4), "b": samples(5)}
    trainer = alone(tmp_path, options, eval_dataset=named)
    first = trainer.get_eval_dataloader("a")
    assert trainer.get_eval_dataloader("a") is first
    assert trainer.get_eval_dataloader("b") is not first
    assert trainer.get_eval_dataloader(named["b"]) is trainer.get_eval_dataloader(named["b"])
    # Another dataset under the same key gets a loader of its own.
    another: Any = trainer.get_eval_dataloader(samples(3)).dataset
    assert another == samples(3)
    assert alone(tmp_path, options, eval_dataset=named).get_eval_dataloader("a") is not first
    plain = alone(tmp_path, eval_dataset=samples(4))
    assert plain.get_eval_dataloader() is not plain.get_eval_dataloader()


def test_a_sampler_of_an_override_goes_by_the_seed(tmp_path: Path) -> None:
    class Shuffled(Ours):
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return RandomSampler(train_dataset)

    def order(trainer: Ours) -> list[Any]:
        return [batch["input_ids"].tolist() for batch in trainer.get_train_dataloader()]

    args = TrainingArguments(str(tmp_path), use_cpu=True)
    expected = order(alone(tmp_path, train_dataset=samples()))
    assert order(Shuffled(args, train_dataset=samples())) == expected


def test_lengths_in_a_column_are_gone_by_though_the_model_does_not_take_it(tmp_path: Path) -> None:
    rows = [{"input_ids": [i], "length": 100 - i} for i in range(40)]
    options = {"train_sampling_strategy": "group_by_length"}
    trainer = alone(tmp_path, options, train_dataset=datasets.Dataset.from_list(rows))
    first = next(iter(trainer.get_train_dataloader()))
    assert list(first) == ["input_ids"]
    assert first["input_ids"][0].item() == 0


def test_the_input_that_has_the_length_is_the_processing_class_s(tmp_path: Path) -> None:
    rows = [{"values": [0] * n, "input_ids": n} for n in range(1, 20)]
    options = {"train_sampling_strategy": "group_by_length"}
    processing = SimpleNamespace(model_input_names=["values", "mask"])
    trainer = alone(tmp_path, options, train_dataset=rows, processing_class=processing)
    assert next(iter(trainer.get_train_dataloader()))["input_ids"][0] == 19


def test_groups_of_data_without_a_length_are_said_to_have_no_effect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"train_sampling_strategy": "group_by_length", "max_steps": 3}
    alone(tmp_path, options, train_dataset=Stream()).get_train_dataloader()
    assert alone(tmp_path, options, train_dataset=Stream())._get_train_sampler() is None
    assert "has no effect: the training data has no length" in caplog.messages[0]


@pytest.mark.parametrize(
    ("given", "ask", "error", "message"),
    [
        ({}, "get_train_dataloader", ArgumentError, "Training needs a train_dataset"),
        ({}, "get_eval_dataloader", ArgumentError, "Evaluation needs an eval_dataset"),
        (
            {"train_dataset": []},
            "get_train_dataloader",
            DataError,
            "Training: the dataset is empty",
        ),
        (
            {"eval_dataset": []},
            "get_eval_dataloader",
            DataError,
            "Evaluation: the dataset is empty",
        ),
        (
            {"train_dataset": {"train": [1], "test": [2]}},
            "get_train_dataloader",
            ArgumentError,
            r"a dict of datasets \(train, test\): give one of them",
        ),
        (
            {"train_dataset": iter([1])},
            "get_train_dataloader",
            ArgumentError,
            "a list_iterator is no dataset",
        ),
    ],
)
def test_data_that_is_none_is_refused(
    given: dict[str, Any], ask: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        getattr(alone(tmp_path, **given), ask)()


def test_a_dataset_to_evaluate_is_asked_for_by_a_name_that_there_is(tmp_path: Path) -> None:
    trainer = alone(tmp_path, eval_dataset={"valid": samples(3)})
    with pytest.raises(ArgumentError, match="no eval_dataset named 'valdi': did you mean 'valid'"):
        trainer.get_eval_dataloader("valdi")
    trainer.eval_dataset = samples(3)
    with pytest.raises(ArgumentError, match="has one alone, without a name"):
        trainer.get_eval_dataloader("valid")


def test_data_of_which_the_model_takes_nothing_is_refused(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"text": ["a"]})
    with pytest.raises(
        ArgumentError, match=r"data has text, and of these Model\.forward takes none"
    ):
        alone(tmp_path, train_dataset=table).get_train_dataloader()
    loader = alone(tmp_path, train_dataset=[{"text": "a"}]).get_train_dataloader()
    with pytest.raises(DataError, match=r"data has text, and of these Model\.forward takes none"):
        next(iter(loader))
