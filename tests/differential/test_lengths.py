"""How long a run is: epochs, fractions of them, steps, accumulation, what is left over."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.differential.case import Case, Outcome
from tests.differential.data import samples
from tests.differential.grouping import each

# 22 samples in batches of 4: six micro-batches, the last of them of two samples.
EPOCHS = (1, 2, 0.5, 1.5)
CASES = [
    *(
        Case(
            f"{epochs} epochs, accumulation {accumulation}",
            {"num_train_epochs": epochs, "gradient_accumulation_steps": accumulation},
            quick=(epochs, accumulation) == (1.5, 4),
        )
        for epochs in EPOCHS
        for accumulation in (1, 4)
    ),
    *(
        Case(
            f"{steps} steps, accumulation {accumulation}",
            {"max_steps": steps, "gradient_accumulation_steps": accumulation},
        )
        for accumulation, counts in ((1, (1, 4, 6, 8, 13)), (4, (1, 2, 3, 5)))
        for steps in counts
    ),
    Case("steps go before epochs", {"max_steps": 7, "num_train_epochs": 5}),
    Case("a whole number of groups", {"gradient_accumulation_steps": 3}),
    Case("accumulation over more than an epoch", {"gradient_accumulation_steps": 9}),
    Case("last batch dropped", {"dataloader_drop_last": True, "eval_strategy": "epoch"}),
    Case(
        "last batch dropped, accumulation 2",
        {"dataloader_drop_last": True, "gradient_accumulation_steps": 2},
    ),
    Case("one sample", {"num_train_epochs": 3}, train=samples(1)),
    Case("one batch", {"per_device_train_batch_size": 64}),
    Case("batches of one", {"per_device_train_batch_size": 1, "num_train_epochs": 1}),
    Case("tiny part of an epoch", {"num_train_epochs": 0.01}),
    Case("two epochs and a little", {"num_train_epochs": 2.1, "gradient_accumulation_steps": 2}),
    Case(
        "half an epoch, everything by the epoch",
        {
            "num_train_epochs": 0.5,
            "logging_strategy": "epoch",
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
        },
    ),
    Case(
        "steps end in an epoch, everything by the epoch",
        {
            "max_steps": 8,
            "logging_strategy": "epoch",
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
        },
    ),
]


@each(CASES)
def test_same_as_the_reference(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_seeds(check: Callable[[Case], Outcome], seed: int) -> None:
    check(Case(f"seed {seed}", {"seed": seed, "eval_strategy": "epoch"}))
