"""The Trainer's data loaders: as the reference prepares them, batch by batch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Sampler

from ...bus.diagnostics import get_logger
from ...schemas.errors import ArgumentError, DataError, nearest
from .ahead import AheadLoader, leave_group, seed_worker
from .collected import length_of
from .columns import AcceptedColumns, accepted_columns, without_surplus
from .samplers import LengthGroupedSampler, SeededSampler, SequentialSampler, lengths_of, seeded

log = get_logger()


class TrainerData:
    """`get_train_dataloader` and what belongs to it, for the `Trainer` to inherit."""

    args: Any
    model: nn.Module
    train_dataset: Any
    eval_dataset: Any
    data_collator: Callable[[list[Any]], Any]
    processing_class: Any
    label_names: list[str]
    _train_batch_size: int
    _signature_columns: list[str] | None = None
    _eval_dataloaders: Mapping[str, tuple[Any, DataLoader[Any]]] = {}

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The loader of the training data, in the order of `train_sampling_strategy`.

        Raises:
            ArgumentError: there is no training data, or the model takes none of its columns.
            DataError: it is empty.
        """
        if self.train_dataset is None:
            raise ArgumentError("Training needs a train_dataset: give one to the Trainer.")
        return self._get_dataloader(
            self.train_dataset,
            "Training",
            self._train_batch_size,
            sampler_fn=self._get_train_sampler,
            is_training=True,
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """The loader of the data to evaluate on, in its own order.

        With `dataloader_persistent_workers` the loader of a dataset is made once and kept.

        Args:
            eval_dataset: instead of the Trainer's own; or the name of one of these.

        Raises:
            ArgumentError: there is no such data, or the model takes none of its columns.
            DataError: it is empty.
        """
        name = eval_dataset if isinstance(eval_dataset, str) else None
        if name is not None:
            dataset = self._own_eval_dataset(name)
        else:
            dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if dataset is None:
            raise ArgumentError(
                "Evaluation needs an eval_dataset: give one to the Trainer, or to evaluate()."
            )
        return self._get_dataloader(
            dataset,
            "Evaluation",
            self.args.eval_batch_size,
            sampler_fn=self._get_eval_sampler,
            dataloader_key=name or "eval",
        )

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader[Any]:
        """The loader of data to predict, in its own order.

        Args:
            test_dataset: the data.

        Raises:
            ArgumentError: the model takes none of its columns.
            DataError: it is empty.
        """
        return self._get_dataloader(
            test_dataset,
            "Prediction",
            self.args.eval_batch_size,
            sampler_fn=self._get_eval_sampler,
        )

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Samples that a loader gives; an upper bound where its dataset has no length.

        Raises:
            TypeError: neither the dataset nor the loader has a length.
        """
        length = length_of(getattr(dataloader, "dataset", None))
        if length is not None:
            return length
        return len(dataloader) * int(self.args.per_device_train_batch_size)

    def _get_dataloader(
        self,
        dataset: Any,
        description: str,
        batch_size: int,
        sampler_fn: Callable[[Any], Any] | None = None,
        is_training: bool = False,
        dataloader_key: str | None = None,
    ) -> DataLoader[Any]:
        keeps = dataloader_key is not None and self.args.dataloader_persistent_workers
        kept = self._eval_dataloaders.get(str(dataloader_key)) if keeps else None
        if kept is not None and kept[0] is dataset:
            return kept[1]
        _check(dataset, description)
        options: dict[str, Any] = {"batch_size": batch_size} | self._loader_options()
        if not isinstance(dataset, IterableDataset):
            options["drop_last"] = self.args.dataloader_drop_last
            if sampler_fn is not None:
                # Of all columns: the lengths may be in one that the model does not take.
                options["sampler"] = seeded(sampler_fn(dataset), self.args.data_seed)
            if is_training:
                options["worker_init_fn"] = seed_worker
        loaded, collator = dataset, self.data_collator
        if _is_hf_dataset(dataset):
            loaded = self._remove_unused_columns(dataset, description)
        else:
            collator = self._get_collator_with_removed_columns(collator, description)
        loader = AheadLoader(loaded, self.args.device, collate_fn=collator, **options)
        if keeps:
            kept_now = {str(dataloader_key): (dataset, loader)}
            self._eval_dataloaders = {**self._eval_dataloaders, **kept_now}
        return loader

    def _end_workers(self, train_loader: Any) -> None:
        """Ends the processes that load data, of the evaluations in a training as well."""
        for loader in (train_loader, *(kept for _, kept in self._eval_dataloaders.values())):
            if isinstance(loader, AheadLoader):
                loader.end_workers()

    def _loader_options(self) -> dict[str, Any]:
        args = self.args
        return {
            "num_workers": args.dataloader_num_workers,
            # torch warns where there is no device whose copies it would speed up.
            "pin_memory": args.dataloader_pin_memory and args.device.type not in {"cpu", "mps"},
            "persistent_workers": args.dataloader_persistent_workers,
            "multiprocessing_context": args.dataloader_multiprocessing_context,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "in_order": args.dataloader_in_order,
            "worker_init_fn": leave_group,
        }

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        """The order of the training samples; None for data without a length, which has its own.

        A `RandomSampler` of torch's that an override returns is made one that goes by seed and
        epoch.
        """
        dataset = self.train_dataset if train_dataset is None else train_dataset
        strategy = str(self.args.train_sampling_strategy)
        if length_of(dataset) is None:
            if dataset is not None and strategy == "group_by_length":
                log.warning(
                    "train_sampling_strategy='group_by_length' has no effect: the training data "
                    "has no length, so it comes in its own order."
                )
            return None
        if strategy == "group_by_length":
            step = self.args.train_batch_size * self.args.gradient_accumulation_steps
            # Without a generator of its own, as in the reference.
            return LengthGroupedSampler(step, self._lengths(dataset))
        if strategy == "sequential":
            return SequentialSampler(dataset)
        return SeededSampler(dataset, self.args.data_seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler[int] | None:
        """The order of samples to evaluate; None for data without a length, which has its own."""
        if length_of(eval_dataset) is None:
            return None
        if str(self.args.train_sampling_strategy) != "group_by_length":
            return SequentialSampler(eval_dataset)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler(
            self.args.eval_batch_size,
            self._lengths(eval_dataset),
            torch.Generator().manual_seed(seed),
        )

    def _lengths(self, dataset: Any) -> list[float]:
        names = getattr(self.processing_class, "model_input_names", None)
        column = self.args.length_column_name
        return lengths_of(dataset, column, names[0] if names else "input_ids")

    def _own_eval_dataset(self, name: str) -> Any:
        if not isinstance(self.eval_dataset, Mapping):
            raise ArgumentError(
                f"There is no eval_dataset named {name!r}: the Trainer has one alone, without a "
                "name."
            )
        if name not in self.eval_dataset:
            known = [str(known) for known in self.eval_dataset]
            raise ArgumentError(f"There is no eval_dataset named {name!r}: {nearest(name, known)}")
        return self.eval_dataset[name]

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = accepted_columns(self.model, self.label_names)

    def _remove_unused_columns(self, dataset: Any, description: str | None = None) -> Any:
        if not self.args.remove_unused_columns:
            return dataset
        self._set_signature_columns_if_needed()
        assert self._signature_columns is not None
        return without_surplus(
            dataset, self._signature_columns, self.model, description or "The data"
        )

    def _get_collator_with_removed_columns(
        self, data_collator: Callable[[list[Any]], Any], description: str | None = None
    ) -> Callable[[list[Any]], Any]:
        if not self.args.remove_unused_columns:
            return data_collator
        self._set_signature_columns_if_needed()
        assert self._signature_columns is not None
        return AcceptedColumns(
            data_collator, self._signature_columns, self.model, description or "The data"
        )


def _is_hf_dataset(dataset: Any) -> bool:
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(dataset, datasets.Dataset)


def _check(dataset: Any, description: str) -> None:
    if isinstance(dataset, Mapping):
        raise ArgumentError(
            f"{description}: the dataset is a dict of datasets ({', '.join(map(str, dataset))}): "
            "give one of them."
        )
    if length_of(dataset) == 0:
        raise DataError(f"{description}: the dataset is empty.")
    if not isinstance(dataset, IterableDataset) and not hasattr(dataset, "__getitem__"):
        raise ArgumentError(
            f"{description}: a {type(dataset).__name__} is no dataset: it has no samples by number "
            "(__getitem__ and __len__), and is no torch IterableDataset."
        )
