"""Both libraries' Trainers around the same things, for what a case's outcome does not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.differential.case import QUIET
from tests.differential.data import rows
from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.differential.models import Regression

LIBRARIES = pytest.mark.parametrize("library", [REFERENCE, STEPBUS], ids=["reference", "stepbus"])
"""For tests that say what both must do."""


def make(library: Library, folder: Path, *, given: Any = None, **arguments: Any) -> Any:
    """A Trainer of a library over a tiny regression.

    Args:
        folder: where it writes; each library has a folder of its own in it.
        given: further arguments of the Trainer, which may replace model and data.
        **arguments: of `TrainingArguments`, over those of the differential tests.
    """
    keywords = {"train_dataset": rows(12), "eval_dataset": rows(6, 1), **(given or {})}
    if "model_init" not in keywords and "model" not in keywords:
        torch.manual_seed(7)
        keywords["model"] = Regression()
    args = library.TrainingArguments(str(folder / library.name), **{**QUIET, **arguments})
    return library.Trainer(args=args, **keywords)


def of_both(what: Callable[[Library], Any]) -> tuple[Any, Any]:
    """What a function makes with the reference, and what it makes with stepbus."""
    return what(REFERENCE), what(STEPBUS)
