"""Arguments about how data is loaded, through the whole Trainer beside the reference."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import RandomSampler, SequentialSampler

from tests.compat.pairs import make, of_both
from tests.differential.case import Case, Outcome
from tests.differential.data import Rows, renamed, rows, samples, sets, table, texts
from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.differential.models import OtherNames, Regression, gpt2

Check = Callable[[Case], Outcome]

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4}
WORKER: dict[str, Any] = {"dataloader_num_workers": 1, "max_steps": 8}


class Everything(Regression):
    """Takes whatever it is given, and its loss is of all of it."""

    def forward(self, x: Any, labels: Any = None, **keywords: Any) -> Any:
        assert "weight" in keywords
        loss, found = super().forward(x, labels)
        return loss * keywords["weight"].float().mean(), found


def surplus() -> Any:
    """A table with columns that the model does not take."""
    return table(22, name=lambda index: f"row {index}", index=lambda index: index)()


def kept() -> Any:
    """A table with a column that only a model with keywords takes."""
    return table(22, weight=lambda index: index % 3)()


WORKERS = [
    Case("workers", {**EVALUATED, **WORKER, "dataloader_num_workers": 2}),
    Case(
        "persistent workers, prefetch factor",
        {
            **EVALUATED,
            **WORKER,
            "dataloader_persistent_workers": True,
            "dataloader_prefetch_factor": 3,
        },
    ),
    Case(
        "persistent workers, two sets",
        {**EVALUATED, **WORKER, "dataloader_persistent_workers": True},
        eval=sets(a=3, b=4),
    ),
    Case("not in order", {**WORKER, "dataloader_in_order": False}),
    Case("forked", {**WORKER, "dataloader_multiprocessing_context": "fork"}),
]
COLUMNS = [
    Case("surplus columns of a table", EVALUATED, train=surplus, eval=surplus),
    Case(
        "surplus keys of dicts",
        EVALUATED,
        train=lambda: Rows(22, name="x", index=3),
        eval=lambda: Rows(10, name="x"),
    ),
    Case(
        "everything of a table",
        {**EVALUATED, "remove_unused_columns": False},
        Everything,
        kept,
        kept,
    ),
    Case(
        "everything of dicts",
        {**EVALUATED, "remove_unused_columns": False},
        Everything,
        lambda: Rows(22, weight=2.0),
        lambda: Rows(9, weight=3.0),
    ),
    Case(
        "label_names",
        {**EVALUATED, "label_names": ["target"]},
        OtherNames,
        renamed(22),
        renamed(10, seed=1),
    ),
    Case(
        "label_names, none of them in the data",
        {**EVALUATED, "label_names": ["nothing"]},
        Regression,
    ),
]
ORDER = [
    Case("sequential", {**EVALUATED, "train_sampling_strategy": "sequential"}),
    Case(
        "group_by_length",
        {**EVALUATED, "train_sampling_strategy": "group_by_length"},
        gpt2,
        texts(12),
        texts(5, seed=1),
    ),
    Case("last batch dropped", {**EVALUATED, "dataloader_drop_last": True}, eval=samples(9)),
]


@pytest.mark.parametrize("case", WORKERS, ids=lambda case: case.name)
def test_workers(check: Check, case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", COLUMNS, ids=lambda case: case.name)
def test_columns(check: Check, case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", ORDER, ids=lambda case: case.name)
def test_order(check: Check, case: Case) -> None:
    check(case)


LOADERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "dataloader_drop_last": {"dataloader_drop_last": True},
    "dataloader_num_workers": {"dataloader_num_workers": 2},
    "dataloader_persistent_workers": {
        "dataloader_num_workers": 1,
        "dataloader_persistent_workers": True,
    },
    "dataloader_prefetch_factor": {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 5},
    "dataloader_multiprocessing_context": {
        "dataloader_num_workers": 1,
        "dataloader_multiprocessing_context": "spawn",
    },
    "dataloader_in_order": {"dataloader_in_order": False},
    "per_device_train_batch_size": {"per_device_train_batch_size": 3},
    "per_device_eval_batch_size": {"per_device_eval_batch_size": 5},
}


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_are_made_with_what_the_reference_makes_them_with(
    tmp_path: Path, name: str
) -> None:
    def made(library: Library) -> list[Any]:
        trainer = make(library, tmp_path, **LOADERS[name])
        loaders = [
            trainer.get_train_dataloader(),
            trainer.get_eval_dataloader(),
            trainer.get_test_dataloader(rows(5)),
        ]
        return [(options(loader), len(loader)) for loader in loaders]

    theirs, ours = of_both(made)
    assert ours == theirs


def options(loader: Any) -> dict[str, Any]:
    context, batches = loader.multiprocessing_context, loader.batch_sampler
    return {
        "batch_size": batches.batch_size,
        "drop_last": batches.drop_last,
        "workers": loader.num_workers,
        "persistent": loader.persistent_workers,
        "prefetch": loader.prefetch_factor,
        "context": context and context.get_start_method(),
        "in_order": loader.in_order,
        "pinned": loader.pin_memory,
        "shuffled": isinstance(batches.sampler, RandomSampler),
        "in its order": isinstance(batches.sampler, SequentialSampler),
    }


@pytest.mark.parametrize("pin", [True, False])
def test_memory_is_pinned_where_there_is_a_device_to_copy_to(tmp_path: Path, pin: bool) -> None:
    def asked(library: Library) -> tuple[bool, bool]:
        arguments = {"use_cpu": False, "dataloader_pin_memory": pin}
        args = library.TrainingArguments(str(tmp_path), report_to="none", **arguments)
        on_cpu = library.TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
        return args.dataloader_pin_memory, on_cpu.dataloader_pin_memory

    theirs, ours = of_both(asked)
    assert ours == theirs == (pin, False)
    trainer = make(STEPBUS, tmp_path, use_cpu=False, dataloader_pin_memory=pin)
    on_gpu = trainer.args.device.type == "cuda"
    assert trainer.get_train_dataloader().pin_memory is (pin and on_gpu)


@pytest.fixture
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("quiet")
def test_what_the_model_does_not_take_reaches_it_only_without_remove_unused_columns(
    tmp_path: Path,
) -> None:
    given = {"train_dataset": surplus(), "data_collator": lambda found: found}
    for library in (REFERENCE, STEPBUS):
        for removes in (True, False):
            trainer = make(library, tmp_path, given=given, remove_unused_columns=removes)
            (sample, *_) = next(iter(trainer.get_train_dataloader()))
            assert ("name" in sample) is not removes
