"""Data in its several forms, and the order in which it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.differential.case import Case, Outcome
from tests.differential.data import (
    RandomRows,
    Rows,
    SeededStream,
    SizedStream,
    Stream,
    pairs_to_dict,
    rows,
    samples,
    table,
    tensors,
    text_table,
    texts,
)
from tests.differential.grouping import each
from tests.differential.libraries import DATASETS, Library
from tests.differential.models import Pairs, classifier, gpt2

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 3}


def collated(library: Library) -> dict[str, Any]:
    return {"data_collator": pairs_to_dict}


class Generated(torch.utils.data.Dataset[Any]):
    """Has no `__len__`-independent state: made when it is read."""

    def __len__(self) -> int:
        return 22

    def __getitem__(self, index: int) -> Any:
        return rows(22)[index] | {"index": index, "name": f"row {index}"}


def surplus(count: int) -> Callable[[], Any]:
    """A table with columns that the model does not take."""
    return table(count, name=lambda index: f"row {index}", index=lambda index: index)


FORMS = [
    Case("list of dicts", EVALUATED),
    Case("dataset of dicts", EVALUATED, train=lambda: Rows(22)),
    Case(
        "dataset of dicts with more in them", EVALUATED, train=lambda: Rows(22, name="x", index=3)
    ),
    Case("made when read", EVALUATED, train=Generated),
    Case("random when read", EVALUATED, train=lambda: RandomRows(22), eval=lambda: RandomRows(9)),
    Case(
        "random when read, accumulation 4",
        {"gradient_accumulation_steps": 4},
        train=lambda: RandomRows(22),
    ),
    Case("table", EVALUATED, train=surplus(22), eval=surplus(10), quick=True),
    Case("table without more", EVALUATED, train=table(22), eval=table(10)),
    Case("tensors", EVALUATED, train=tensors, eval=tensors, trainer=collated),
    Case(
        "tensors, everything kept",
        EVALUATED | {"remove_unused_columns": False},
        train=tensors,
        eval=tensors,
        trainer=collated,
    ),
    Case(
        "table of plain numbers, one label each",
        EVALUATED,
        classifier,
        lambda: _sentences(22),
        lambda: _sentences(10),
    ),
    Case(
        "tuples, in a model of their own",
        {"remove_unused_columns": False},
        Pairs,
        tensors,
        tensors,
        trainer=lambda library: {"data_collator": torch.utils.data.default_collate},
        subclass=lambda base: _pairs_trainer(base),
    ),
]
STREAMS = [
    Case("stream", {"max_steps": 8}, train=lambda: Stream(22), quick=True),
    Case(
        "stream, evaluated",
        EVALUATED | {"max_steps": 8},
        train=lambda: Stream(22),
        eval=lambda: Stream(9),
    ),
    Case("stream, saved", {"max_steps": 8, "save_strategy": "epoch"}, train=lambda: Stream(22)),
    Case(
        "stream, whole groups",
        {"max_steps": 7, "gradient_accumulation_steps": 2},
        train=lambda: Stream(24),
    ),
    Case(
        "stream with a length",
        EVALUATED,
        train=lambda: SizedStream(22),
        eval=lambda: SizedStream(9),
    ),
    Case(
        "stream with a length, accumulation 4",
        {"gradient_accumulation_steps": 4},
        train=lambda: SizedStream(22),
    ),
    Case(
        "stream with a length, last dropped",
        {"dataloader_drop_last": True},
        train=lambda: SizedStream(22),
    ),
    Case("stream that hears of epochs", {"max_steps": 15}, train=lambda: SeededStream(22)),
    Case(
        "stream, strategies by the epoch",
        {"max_steps": 13, "logging_strategy": "epoch", "eval_strategy": "epoch"},
        train=lambda: Stream(22),
    ),
    Case("table as a stream", {"max_steps": 8}, train=lambda: surplus(22)().to_iterable_dataset()),
]
ORDER = [
    Case("data seed", EVALUATED | {"data_seed": 11}, quick=True),
    Case("data seed, equal to the seed", {"data_seed": 42}),
    Case("sequential", EVALUATED | {"train_sampling_strategy": "sequential"}),
    Case("seed", {"seed": 5}),
    *(
        Case(
            f"by length, {kind}, accumulation {accumulation}",
            {
                "train_sampling_strategy": "group_by_length",
                "gradient_accumulation_steps": accumulation,
                "remove_unused_columns": False,
                **EVALUATED,
            },
            gpt2,
            data,
            data,
            trainer=lambda library: {"data_collator": _cut},
        )
        for accumulation in (1, 2)
        for kind, data in (
            ("rows", texts(22, padded=False)),
            ("table", lambda: text_table(22, "length")),
        )
    ),
    Case(
        "by length in a column of another name",
        {
            "train_sampling_strategy": "group_by_length",
            "length_column_name": "size",
            "num_train_epochs": 3,
            "remove_unused_columns": False,
        },
        gpt2,
        lambda: text_table(22, "size"),
        lambda: text_table(9, "size"),
        trainer=lambda library: {"data_collator": _cut},
    ),
    Case("one worker", EVALUATED | {"dataloader_num_workers": 1, "max_steps": 8}),
    Case(
        "one worker, random when read",
        {"dataloader_num_workers": 1, "max_steps": 8},
        train=lambda: RandomRows(22),
    ),
    Case("last batch dropped", {"dataloader_drop_last": True}, train=samples(23)),
]


def _sentences(count: int) -> Any:
    found = texts(count)()
    return DATASETS.Dataset.from_list(
        [
            {"input_ids": row["input_ids"], "attention_mask": row["attention_mask"], "label": i % 3}
            for i, row in enumerate(found)
        ]
    )


def _cut(found: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pads to the longest; labels of the padding do not count."""
    longest = max(len(row["input_ids"]) for row in found)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row[name])) for row in found])
        for name, value in fill.items()
    }


def _pairs_trainer(base: Any) -> Any:
    class Trainer(base):  # type: ignore[misc]
        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            x, labels = inputs
            found = model(x)
            loss = torch.nn.functional.mse_loss(found, labels)
            return (loss, (loss, found)) if return_outputs else loss

    return Trainer


@each(FORMS)
def test_forms(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(STREAMS)
def test_streams(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(ORDER)
def test_order(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
