"""Lightning's names and ours, in one table, and the classes of whichever Lightning is in use."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
from typing import Any, NamedTuple

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
"""The names under which Lightning is installed; either, or both."""


class Named(NamedTuple):
    """What Lightning calls something, and what we call it."""

    theirs: str
    """A hook of its callbacks, or another method that it calls."""
    ours: str
    """The kind of event."""
    when: str = ""


NAMES = (
    Named("on_fit_start", "init_end", "`validate`, `test`, `predict`: at their start"),
    Named("on_train_start", "train_begin", "with the module's hyper-parameters"),
    Named("on_train_epoch_start", "epoch_begin"),
    Named("on_train_batch_start", "step_begin", "the first micro-batch of a step"),
    Named("on_before_optimizer_step", "pre_optimizer_step", "Lightning clips after it"),
    Named("optimizer.step", "optimizer_step", "the schedule moves after it"),
    Named("on_train_batch_end", "substep_end", "`global_step` is as it was"),
    Named("on_train_batch_end", "step_end", "`global_step` is higher; votes are merged"),
    Named("Logger.log_metrics", "log", "with the step that Lightning's loggers are given"),
    Named("on_validation_batch_end", "prediction_step", "not in the sanity check"),
    Named("on_test_batch_end", "prediction_step"),
    Named("on_predict_batch_end", "prediction_step"),
    Named("on_validation_end", "evaluate", "not after the sanity check; votes are merged"),
    Named("on_test_end", "predict"),
    Named("on_predict_end", "predict", "without metrics"),
    Named("Trainer.save_checkpoint", "save", "whoever calls it, once the file is written"),
    Named("on_train_epoch_end", "epoch_end", "votes are merged"),
    Named("on_fit_end", "train_end"),
    Named("on_exception", "run_failed"),
)
"""Each event that comes of a call of Lightning's, in the order of a run."""


def with_lightnings(cls: type[Any], name: str) -> type[Any]:
    """A class that is one of Lightning's too, of each package of it that has been imported; of
    each that can be, where none has.

    Args:
        cls: whose methods come first; one that is Lightning's already is given back.
        name: theirs, below the package, such as `callbacks.Callback`.

    Raises:
        ImportError: none has been imported, and none can be.
    """
    loaded = [package for package in PACKAGES if package in sys.modules] or _import_all()
    module, _, attribute = name.rpartition(".")
    theirs = [getattr(importlib.import_module(f"{each}.{module}"), attribute) for each in loaded]
    bases = tuple(each for each in theirs if not issubclass(cls, each))
    derived: type[Any] = _derived(cls, bases)  # type: ignore[arg-type]
    return derived


@functools.cache
def _derived(cls: type[Any], bases: tuple[type[Any], ...]) -> type[Any]:
    if not bases:
        return cls
    names = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls, *bases), names)


def _import_all() -> list[str]:
    found = []
    for package in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)
            found.append(package)
    if not found:
        raise ImportError(
            "LightningBridge needs Lightning, which cannot be imported: pip install lightning, or "
            "pytorch-lightning."
        )
    return found
