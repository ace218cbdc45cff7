"""Batches of nested tensors put together: concatenated or listed, padded, brought to the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...schemas.errors import ArgumentError

PADDING = -100
"""What fills the places that a shorter batch has not; losses and metrics of labels ignore it."""


class Gathered:
    """What every batch of an evaluation gave, of one kind (predictions, say).

    Nothing is read from the device until `to_host` or `arrays` is called.

    Args:
        concat: put batches together sample by sample; otherwise they stay a list of batches.
    """

    def __init__(self, *, concat: bool = True) -> None:
        self._concat = concat
        self._layout: str | None = None
        self._on_device: list[Any] = []
        self._on_host: list[Any] = []

    def add(self, values: Any) -> None:
        """Adds one batch: a tensor, or tuples, lists and dicts of tensors.

        Raises:
            ArgumentError: something in it is no tensor, or it cannot be put together with the
                batches before it.
        """
        layout = _layout_of(values)
        if self._layout is None:
            self._layout = layout
        if self._concat and layout != self._layout:
            raise ArgumentError(
                f"A batch of an evaluation gave {layout}, and one before it {self._layout}: only "
                "dims marked * may differ. Leave what differs out with ignore_keys, reduce it in "
                "preprocess_logits_for_metrics, or set eval_do_concat_batches=False."
            )
        self._on_device.append(_mapped(_without_the_rest, values))

    @property
    def is_on_device(self) -> bool:
        """Whether bringing it to the host means to wait."""
        return any(map(_has_device_tensor, self._on_device[:1]))

    def to_host(self) -> None:
        """Brings what was added so far to the host, so that the device can use its memory."""
        if not self._on_device:
            return
        if self._concat:
            # One copy for all batches instead of one for each.
            self._on_host.append(as_arrays(concatenate(self._on_device)))
        else:
            self._on_host.extend(as_arrays(batch) for batch in self._on_device)
        self._on_device = []

    def arrays(self) -> Any:
        """All of it on the host as numpy arrays; None where nothing was added."""
        self.to_host()
        if not self._on_host:
            return None
        return concatenate(self._on_host) if self._concat else self._on_host


def concatenate(batches: Sequence[Any]) -> Any:
    """Batches of the same layout as one, samples along dim 0.

    Where batches differ in dim 1, the shorter ones are filled up on the right with -100.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, Mapping):
        return _like(first, {key: concatenate([b[key] for b in batches]) for key in first})
    if isinstance(first, list | tuple):
        return _like(first, [concatenate(parts) for parts in zip(*batches, strict=True)])
    return _joined(batches)


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        arrays: list[Any] = [torch.atleast_1d(part) for part in parts]  # type: ignore[no-untyped-call]
    else:
        arrays = [np.atleast_1d(part) for part in parts]
    first = arrays[0]
    if first.ndim == 1 or all(array.shape[1] == first.shape[1] for array in arrays):
        return torch.cat(arrays) if isinstance(first, Tensor) else np.concatenate(arrays)
    shape = (sum(map(len, arrays)), max(array.shape[1] for array in arrays), *first.shape[2:])
    if isinstance(first, Tensor):
        whole: Any = first.new_full(shape, PADDING)
    else:
        whole = np.full_like(first, PADDING, shape=shape)
    start = 0
    for array in arrays:
        whole[start : start + len(array), : array.shape[1]] = array
        start += len(array)
    return whole


def _has_device_tensor(values: Any) -> bool:
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return any(map(_has_device_tensor, values))
    return isinstance(values, Tensor) and not values.is_cpu


def as_arrays(values: Any) -> Any:
    """Nested tensors as numpy arrays; bfloat16, which numpy has not, becomes float32."""
    return _mapped(_as_array, values)


def _as_array(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value
    host = value.detach().cpu()
    return (host.float() if host.dtype == torch.bfloat16 else host).numpy()


def nested_detach(values: Any) -> Any:
    """The same with its tensors outside of the graph; what is no tensor stays what it is."""
    return _mapped(lambda value: value.detach() if isinstance(value, Tensor) else value, values)


def find_batch_size(values: Any) -> int | None:
    """How many samples a batch has: dim 0 of the first tensor in it; None if there is none."""
    if isinstance(values, Tensor | np.ndarray):
        return int(values.shape[0]) if values.ndim else None
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        sizes = (find_batch_size(value) for value in values)
        return next((size for size in sizes if size is not None), None)
    return None


def denumpify(metrics: Any) -> Any:
    """Nested metrics with numpy scalars and one-element tensors as plain numbers."""
    return _mapped(_as_number, metrics)


def _as_number(value: Any) -> Any:
    one = isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1)
    return value.item() if one else value


def speed_metrics(
    split: str,
    seconds: float,
    num_samples: float | None = None,
    num_steps: int | None = None,
    num_tokens: int | None = None,
) -> dict[str, float]:
    """How long something took and what came through, by names that begin with `split`.

    Args:
        split: train, eval, test ...
        seconds: how long it took, s.
        num_samples: gives `_samples_per_second`.
        num_steps: gives `_steps_per_second`.
        num_tokens: gives `_tokens_per_second`.
    """
    metrics = {f"{split}_runtime": round(seconds, 4)}
    if seconds == 0:
        return metrics
    counts = {"samples": num_samples, "steps": num_steps, "tokens": num_tokens}
    for unit, count in counts.items():
        if count is not None:
            metrics[f"{split}_{unit}_per_second"] = round(count / seconds, 3)
    return metrics


def _mapped(function: Callable[[Any], Any], values: Any) -> Any:
    if isinstance(values, Mapping):
        return _like(values, {key: _mapped(function, value) for key, value in values.items()})
    if isinstance(values, list | tuple):
        return _like(values, [_mapped(function, value) for value in values])
    return function(values)


def _like(container: Any, items: Any) -> Any:
    """The items in a container of the same type; a plain dict where that wants more than them."""
    if hasattr(container, "_fields"):
        return type(container)(*items)
    try:
        return type(container)(items)
    except TypeError:
        return items


def _without_the_rest(value: Any) -> Any:
    # A slice of the logits would keep all of them alive until the end of the evaluation.
    if isinstance(value, Tensor) and value.layout == torch.strided:
        rest = value.untyped_storage().nbytes() - value.numel() * value.element_size()
        return value.clone() if rest > 0 else value
    return value


def _layout_of(value: Any) -> str:
    """What batches must have in common to be put together, as people read it."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "Tensor" if isinstance(value, Tensor) else "array"
        dims = ["*"] * min(max(value.ndim, 1), 2) + [str(size) for size in value.shape[2:]]
        return f"{kind}[{', '.join(dims)}]"
    if isinstance(value, Mapping):
        inner = ", ".join(sorted(f"{key}: {_layout_of(item)}" for key, item in value.items()))
        return f"{type(value).__name__}({inner})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(_layout_of, value))})"
    raise ArgumentError(
        f"An evaluation gave {value!r:.80}, and only tensors can be gathered: leave it out with "
        "ignore_keys, or return it from prediction_step as a tensor."
    )
