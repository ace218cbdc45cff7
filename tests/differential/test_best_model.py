"""The best model: found, kept, loaded at the end; early stopping."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tests.differential.case import Case, Outcome
from tests.differential.data import sets
from tests.differential.differences import LAST_KEPT, NO_BEST_YET
from tests.differential.grouping import each
from tests.differential.models import Regression
from tests.differential.scoring import (
    BEST,
    DIPPING,
    FALLING,
    LEVEL,
    RISING,
    SLOW,
    scored,
    stopping,
)


def overfitted() -> nn.Module:
    return Regression(dropout=0.5)


CASES = [
    Case("the loss", BEST, quick=True),
    Case("the loss, high rate", BEST | {"learning_rate": 1.5}, overfitted),
    scored("in the middle", DIPPING, quick=True),
    scored("in the middle, one kept", DIPPING, save_total_limit=1, except_for=(LAST_KEPT,)),
    scored("in the middle, two kept", DIPPING, save_total_limit=2),
    scored("in the middle, three kept", DIPPING, save_total_limit=3),
    scored("the last", FALLING, save_total_limit=1),
    scored("the first", RISING, save_total_limit=2),
    scored("the first of equals", LEVEL, save_total_limit=1, except_for=(LAST_KEPT,)),
    scored(
        "greater is better",
        DIPPING,
        greater_is_better=True,
        save_total_limit=1,
        except_for=(LAST_KEPT,),
    ),
    scored("greater unless told otherwise", DIPPING, greater_is_better=None),
    scored("with its prefix", DIPPING, metric_for_best_model="eval_score"),
    scored("noted, not loaded", DIPPING, load_best_model_at_end=False),
    scored(
        "noted, not loaded, one kept",
        DIPPING,
        load_best_model_at_end=False,
        save_total_limit=1,
        except_for=(LAST_KEPT,),
    ),
    scored("noted, nothing saved", DIPPING, load_best_model_at_end=False, save_strategy="no"),
    scored("saved less often than measured", DIPPING, save_steps=4),
    scored("saved less often than measured, one kept", DIPPING, save_steps=6, save_total_limit=1),
    scored("only the best are saved", DIPPING, save_strategy="best"),
    scored("only the best are saved, one kept", DIPPING, save_strategy="best", save_total_limit=1),
    scored("only the best are saved, all", FALLING, save_strategy="best", save_total_limit=2),
    scored("only the best are saved, one", RISING, save_strategy="best"),
    scored(
        "only the best are saved, not loaded",
        DIPPING,
        save_strategy="best",
        load_best_model_at_end=False,
    ),
    scored(
        "by the epoch", DIPPING, eval_strategy="epoch", save_strategy="epoch", num_train_epochs=4
    ),
    scored(
        "by the epoch, one kept",
        DIPPING,
        eval_strategy="epoch",
        save_strategy="epoch",
        num_train_epochs=4,
        save_total_limit=1,
        except_for=(LAST_KEPT,),
    ),
    scored("on start is not the best", (0.5, *DIPPING), eval_on_start=True),
    scored(
        "no number is never the best",
        (float("nan"), 3.0, float("nan"), 2.0, 2.0, 9.0),
        except_for=(NO_BEST_YET,),
    ),
    scored("weights alone", DIPPING, save_only_model=True),
    scored("accumulation 2", DIPPING, gradient_accumulation_steps=2, eval_steps=1, save_steps=1),
    scored("no delay", DIPPING, eval_delay=4),
    Case(
        "one of two sets",
        BEST | {"metric_for_best_model": "second_loss"},
        eval=sets(first=6, second=7),
    ),
    Case(
        "one of two sets, only the best are saved",
        BEST | {"metric_for_best_model": "eval_first_loss", "save_strategy": "best"},
        eval=sets(first=6, second=7),
    ),
    Case(
        "ratios",
        BEST | {"eval_steps": 0.25, "save_steps": 0.5},
    ),
]
STOPPING = [
    scored("patience 1", DIPPING, stopping(1), quick=True),
    scored("patience 2", DIPPING, stopping(early_stopping_patience=2)),
    scored("patience 3", DIPPING, stopping(early_stopping_patience=3)),
    scored("patience never used up", FALLING, stopping(1)),
    scored("patience 2, level", LEVEL, stopping(2)),
    scored("patience 2, threshold 0", SLOW, stopping(2, 0.0)),
    scored("patience 2, worse", RISING, stopping(2, 0.5)),
    scored(
        "patience 1, one kept", DIPPING, stopping(1), save_total_limit=1, except_for=(LAST_KEPT,)
    ),
    scored("patience 1, not loaded", DIPPING, stopping(1), load_best_model_at_end=False),
    scored("patience 1, greater", DIPPING, stopping(1), greater_is_better=True),
    scored("patience 1, the best are saved", DIPPING, stopping(1), save_strategy="best"),
    scored(
        "patience 1, by the epoch",
        DIPPING,
        stopping(1),
        eval_strategy="epoch",
        save_strategy="epoch",
        num_train_epochs=5,
    ),
    Case(
        "patience 1, the first of two sets",
        BEST | {"metric_for_best_model": "first_loss", "greater_is_better": True},
        eval=sets(first=6, second=7),
        callbacks=stopping(1),
    ),
    Case(
        "patience 1, the second of two sets",
        BEST | {"metric_for_best_model": "second_loss", "greater_is_better": True},
        eval=sets(first=6, second=7),
        callbacks=stopping(1),
    ),
    scored("patience 2, on start", (9.0, *DIPPING), stopping(2), eval_on_start=True),
    scored(
        "patience 1, accumulation 4",
        DIPPING,
        stopping(1),
        gradient_accumulation_steps=4,
        eval_steps=1,
        save_steps=1,
    ),
    scored(
        "patience 1, nothing saved",
        DIPPING,
        stopping(1),
        save_strategy="no",
        load_best_model_at_end=False,
    ),
]


@each(CASES)
def test_best_model(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(STOPPING)
def test_early_stopping(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
