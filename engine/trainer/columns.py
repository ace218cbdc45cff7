"""What a model's forward takes, and data without what it does not take."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ...bus.diagnostics import get_logger
from ...schemas.errors import ArgumentError, DataError

log = get_logger()


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside what `torch.compile` and torch's parallel wrappers put around it."""
    while True:
        if isinstance(model, DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model.get_submodule("_orig_mod")
        else:
            return model


def is_peft(model: nn.Module) -> bool:
    """Whether PEFT's adapters are around the model."""
    peft = sys.modules.get("peft")
    return peft is not None and isinstance(model, (peft.PeftModel, peft.PeftMixedModel))


def base_model(model: nn.Module) -> nn.Module:
    """The model inside PEFT's adapters, or the model itself."""
    if not is_peft(model):
        return model
    get_base_model = getattr(model, "get_base_model", None)
    # A model of mixed adapters has no such method.
    inner: Any = get_base_model() if get_base_model else model.base_model.model  # type: ignore[union-attr]
    return inner  # type: ignore[no-any-return]


def find_label_names(model_class: type) -> list[str]:
    """The arguments of a model's forward that are labels, as the reference tells them."""
    names = inspect.signature(_forward(model_class)).parameters
    answers = "QuestionAnswering" in model_class.__name__
    positions = ("start_positions", "end_positions") if answers else ()
    return [name for name in names if "label" in name or name in positions]


def can_return_loss(model_class: type) -> bool:
    """Whether a model's forward gives a loss unless told not to, without any labels."""
    parameter = inspect.signature(_forward(model_class)).parameters.get("return_loss")
    return parameter is not None and parameter.default is True


def accepted_columns(model: nn.Module, label_names: Iterable[str]) -> list[str]:
    """The columns to keep: the arguments of the model's forward, and the labels.

    `label` and `label_ids` are kept as well: the default collators call them `labels`.
    """
    arguments = list(inspect.signature(base_model(model).forward).parameters)
    return list(dict.fromkeys([*arguments, "label", "label_ids", *label_names]))


def without_surplus(dataset: Any, accepted: Sequence[str], model: nn.Module, role: str) -> Any:
    """A `datasets.Dataset` with those columns alone that the model takes.

    Args:
        dataset: the `datasets.Dataset`.
        accepted: the columns to keep, from `accepted_columns`.
        model: named in messages.
        role: what the data is for, as `Training`.

    Raises:
        ArgumentError: the model takes none of them.
    """
    surplus = [name for name in dataset.column_names if name not in accepted]
    if surplus and len(surplus) == len(dataset.column_names):
        raise ArgumentError(_nothing_fits(surplus, accepted, model, role))
    if not surplus:
        return dataset
    log.info(_left_out(surplus, model, role))
    return dataset.remove_columns(surplus)


class AcceptedColumns:
    """A collator that gives another one the keys alone that the model takes.

    Samples that are no dicts stay as they are.

    Args:
        collator: what puts the samples together.
        accepted: the keys to keep, from `accepted_columns`.
        model: named in messages; not kept, so that loader processes are not sent it.
        role: what the data is for, as `Training`.
    """

    def __init__(
        self,
        collator: Callable[[list[Any]], Any],
        accepted: Sequence[str],
        model: nn.Module,
        role: str,
    ) -> None:
        self.collator = collator
        self._accepted = frozenset(accepted)
        self._describe = (list(accepted), type(model).__name__, role)
        self._seen = False

    def __call__(self, samples: list[Any]) -> Any:
        """The batch of these samples.

        Raises:
            DataError: the model takes no key of a sample.
        """
        if not self._seen and samples and isinstance(samples[0], dict):
            self._seen = True
            self._check(samples[0])
        accepted = self._accepted
        kept: list[Any] = []
        for sample in samples:
            # A copy in any case: a collator may take keys out, and the data must keep its own.
            if type(sample) is dict and sample.keys() <= accepted:
                kept.append(sample.copy())
            elif isinstance(sample, dict):
                kept.append({name: value for name, value in sample.items() if name in accepted})
            else:
                kept.append(sample)
        return self.collator(kept)

    def _check(self, sample: dict[Any, Any]) -> None:
        surplus = [str(name) for name in sample if name not in self._accepted]
        if surplus and len(surplus) == len(sample):
            raise DataError(_nothing_fits(surplus, *self._describe))
        if surplus:
            log.info(_left_out(surplus, *self._describe[1:]))


def explain(error: Exception, model: nn.Module, label_names: Sequence[str]) -> None:
    """Adds to an error that columns may be behind what to set.

    Args:
        error: left the loop; a KeyError for a key that the model does not take, or a TypeError of
            a forward that was given labels.
        model: the one that was trained.
        label_names: the keys that count as labels.
    """
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str):
        name = error.args[0]
        if name not in accepted_columns(model, label_names):
            error.add_note(
                f"Columns that {_named(model)}.forward does not take are left out of the batches. "
                f"If the data has {name!r}: label_names=[{name!r}] keeps it, and evaluations then "
                "call compute_loss; remove_unused_columns=False keeps all columns."
            )
    elif isinstance(error, TypeError):
        found = re.search(r"unexpected keyword argument '(\w*label\w*)'", str(error))
        if found and found[1] not in label_names:
            error.add_note(
                f"No argument of {_named(model)}.forward is a label, so evaluations call the model "
                f"itself: label_names=[{found[1]!r}] has them call compute_loss."
            )


def _forward(model_class: type) -> Callable[..., Any]:
    return model_class.forward  # type: ignore[attr-defined,no-any-return]


def _named(model: nn.Module | str) -> str:
    return model if isinstance(model, str) else type(model).__name__


def _left_out(surplus: Sequence[str], model: nn.Module | str, role: str) -> str:
    return (
        f"{role}: {_named(model)}.forward does not take {', '.join(surplus)}, so the model is not "
        "given it."
    )


def _nothing_fits(
    surplus: Sequence[str], accepted: Sequence[str], model: nn.Module | str, role: str
) -> str:
    return (
        f"{role}: the data has {', '.join(surplus)}, and of these {_named(model)}.forward takes "
        f"none; it takes {', '.join(accepted)}. Rename the columns, or set "
        "remove_unused_columns=False if the collator or a forward with **kwargs makes use of them."
    )
