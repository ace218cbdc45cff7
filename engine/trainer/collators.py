"""How samples become a batch: the reference's default collators."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

from ...schemas.errors import ArgumentError, DataError

Collator = Callable[[list[Any]], Any]
"""What makes a batch, by the model's arguments, of a list of samples."""

_LABELS = ("label", "label_ids")


def default_data_collator(features: list[Any], return_tensors: str = "pt") -> dict[str, Any]:
    """The batch of samples that have the same keys and, each, values of the same shape.

    `label` (a number) or `label_ids` (several) become `labels`, whole numbers as int64 and others
    as float32. Text and None are left out; the first sample tells for all.

    Args:
        features: the samples: dicts, or objects whose attributes are taken.
        return_tensors: `pt` for torch's tensors, `np` for numpy's arrays.

    Raises:
        ArgumentError: `return_tensors` is neither.
        DataError: the samples are of another kind, or do not fit together.
    """
    if return_tensors not in _KINDS:
        raise ArgumentError(
            f"return_tensors is {return_tensors!r}: give 'pt' for torch's tensors or 'np' for "
            "numpy's arrays."
        )
    kind = _KINDS[return_tensors]
    samples = [_by_name(sample) for sample in features]
    if not samples:
        raise DataError("There is no sample to make a batch of.")
    first = samples[0]
    batch: dict[str, Any] = {}
    if first.get("label") is not None:
        batch["labels"] = _column(samples, "label", partial(_label, kind))
    elif first.get("label_ids") is not None:
        batch["labels"] = _column(samples, "label_ids", partial(_label_ids, kind))
    for name, value in first.items():
        if name not in _LABELS and value is not None and not isinstance(value, str):
            batch[name] = _column(samples, name, partial(_values, kind))
    return batch


@dataclasses.dataclass
class DefaultDataCollator:
    """`default_data_collator` as an object that keeps what to return.

    Args:
        return_tensors: `pt` for torch's tensors, `np` for numpy's arrays.
    """

    return_tensors: str = "pt"

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> dict[str, Any]:
        """The batch of these samples; see `default_data_collator`."""
        return default_data_collator(features, return_tensors or self.return_tensors)


@dataclasses.dataclass
class PaddingCollator:
    """Lets a tokenizer, or what else has `pad`, pad the samples of a batch to one length.

    Args:
        processing_class: what pads.
        padding: True for the longest of the batch, `max_length`, or False.
        max_length: the length for `max_length`.
        pad_to_multiple_of: lengths are rounded up to a multiple of it.
        return_tensors: `pt` for torch's tensors, `np` for numpy's arrays.
    """

    processing_class: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: list[Any]) -> Any:
        """The batch of these samples, what was named `label` or `label_ids` as `labels`."""
        with _advice_withheld(self.processing_class):
            batch = self.processing_class.pad(
                features,
                padding=self.padding,
                max_length=self.max_length,
                pad_to_multiple_of=self.pad_to_multiple_of,
                return_tensors=self.return_tensors,
            )
        for name in _LABELS:
            if name in batch:
                batch["labels"] = batch[name]
                del batch[name]
        return batch


def default_collator_for(processing_class: Any) -> Collator:
    """The collator of who gave none: padding by what can pad sequences, else the default one."""
    return PaddingCollator(processing_class) if _pads(processing_class) else default_data_collator


def _pads(processing_class: Any) -> bool:
    if not callable(getattr(processing_class, "pad", None)):
        return False
    bases = type(processing_class).__mro__
    if not any(base.__module__.startswith("transformers.") for base in bases):
        return True
    # Image processors have a `pad` as well, for images.
    names = {base.__name__ for base in bases}
    return not names.isdisjoint({"PreTrainedTokenizerBase", "SequenceFeatureExtractor"})


@contextlib.contextmanager
def _advice_withheld(processing_class: Any) -> Iterator[None]:
    """For a with block, a fast tokenizer does not say that padding afterwards is slower."""
    said = getattr(processing_class, "deprecation_warnings", None)
    if said is None:
        yield
        return
    name = "Asking-to-pad-a-fast-tokenizer"
    before = said.get(name, False)
    said[name] = True
    try:
        yield
    finally:
        said[name] = before


def _by_name(sample: Any) -> Mapping[str, Any]:
    if isinstance(sample, Mapping):
        return sample
    try:
        attributes: dict[str, Any] = vars(sample)
        return attributes
    except TypeError:
        raise DataError(
            f"A sample is a {type(sample).__name__}, and the model takes its arguments by name: "
            "let the dataset give dicts, or pass a data_collator that makes one of the samples."
        ) from None


def _column(samples: list[Mapping[str, Any]], name: str, make: Callable[..., Any]) -> Any:
    try:
        return make([sample[name] for sample in samples])
    except KeyError:
        fewest = min((list(sample) for sample in samples), key=len)
        raise DataError(
            f"The first sample of a batch has {name!r}, and another one of it has only "
            f"{', '.join(map(str, fewest))}: samples need the same keys."
        ) from None
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"The values of {name!r} do not make one tensor ({error}): give all samples the same "
            "shape, pass the tokenizer as processing_class so that they are padded, or pass a "
            "data_collator."
        ) from error


class _Torch:
    """Batches of torch's tensors."""

    native = torch.Tensor
    whole, real = torch.long, torch.float

    @staticmethod
    def stacked(values: list[Any]) -> Any:
        return torch.stack(values)

    @staticmethod
    def made(values: list[Any], dtype: Any = None) -> Any:
        if isinstance(values[0], np.ndarray):
            stacked = np.stack(values)
            return (
                torch.from_numpy(stacked) if dtype is None else torch.tensor(stacked, dtype=dtype)
            )
        return torch.tensor(values, dtype=dtype)


class _Numpy:
    """Batches of numpy's arrays."""

    native = np.ndarray
    whole, real = np.int64, np.float32

    @staticmethod
    def stacked(values: list[Any]) -> Any:
        return np.stack(values)

    @staticmethod
    def made(values: list[Any], dtype: Any = None) -> Any:
        return np.array(values, dtype=dtype)


_KINDS: dict[str, Any] = {"pt": _Torch, "np": _Numpy}


def _values(kind: Any, values: list[Any]) -> Any:
    return kind.stacked(values) if isinstance(values[0], kind.native) else kind.made(values)


def _label(kind: Any, values: list[Any]) -> Any:
    first = values[0]
    return kind.made(
        values, _dtype(kind, first.item() if isinstance(first, kind.native) else first)
    )


def _label_ids(kind: Any, values: list[Any]) -> Any:
    if isinstance(values[0], kind.native):
        return kind.stacked(values)
    return kind.made(values, _dtype(kind, values[0][0]))


def _dtype(kind: Any, label: Any) -> Any:
    return kind.whole if isinstance(label, int | np.integer) else kind.real
