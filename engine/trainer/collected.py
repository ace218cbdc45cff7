"""What the batches of an evaluation gave, and the metrics that are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from ...schemas.errors import ArgumentError
from .gathering import Gathered, denumpify


@dataclass
class Batch:
    """What one batch of an evaluation gave, on the device."""

    inputs: Any
    num_samples: int
    losses: Tensor | None = None
    """One per sample."""
    logits: Any = None
    labels: Any = None
    main_input: Any = None


class Collected:
    """What all batches of an evaluation gave.

    Args:
        concat: as for `Gathered`.
        losses_only: keep the losses and let go of all else.
    """

    def __init__(self, *, concat: bool, losses_only: bool) -> None:
        kinds = ("losses",) if losses_only else ("losses", "logits", "labels", "main_input")
        self._gathered = {kind: Gathered(concat=concat) for kind in kinds}
        self.num_batches = 0
        self.num_samples = 0

    def add(self, batch: Batch) -> None:
        """Adds one batch; reads nothing from the device."""
        self.num_batches += 1
        self.num_samples += batch.num_samples
        for kind, gathered in self._gathered.items():
            values = getattr(batch, kind)
            if values is not None:
                gathered.add(values)

    @property
    def num_on_device(self) -> int:
        """How many kinds of values bringing it to the host would wait for."""
        return sum(gathered.is_on_device for gathered in self._gathered.values())

    def to_host(self) -> None:
        """Brings all of it to the host."""
        for gathered in self._gathered.values():
            gathered.to_host()

    def arrays(self, kind: str) -> Any:
        """All of one kind as numpy arrays, by its name in `Batch`; None where there is none."""
        return self._gathered[kind].arrays() if kind in self._gathered else None


def main_input_of(model: nn.Module, inputs: Any) -> Any:
    """The input that the model is named for: `main_input_name`, or `input_ids`.

    Raises:
        ArgumentError: the batch has no such input.
    """
    name = getattr(model, "main_input_name", "input_ids")
    if name not in inputs:
        raise ArgumentError(
            f"include_for_metrics asks for the inputs, and a batch of {', '.join(inputs)} has no "
            f"{name!r}: set main_input_name of the model to the name of its main input."
        )
    return inputs[name]


def checked(metrics: Any) -> dict[str, Any]:
    """What `compute_metrics` gave, as a dict of our own.

    Raises:
        ArgumentError: it is no dict.
    """
    if not isinstance(metrics, Mapping):
        raise ArgumentError(
            f"compute_metrics returned {metrics!r}: return a dict of metrics by name."
        )
    return dict(metrics)


def closing_metrics(metrics: dict[str, Any], losses: Any, prefix: str) -> dict[str, Any]:
    """The metrics as plain numbers with the mean loss, each name with `prefix_` before it.

    Args:
        metrics: what `compute_metrics` gave.
        losses: one per sample, as an array or a list of arrays; None without labels.
        prefix: eval, test ...
    """
    metrics = denumpify(metrics)
    if losses is not None:
        # NaN stays in the mean: an evaluation that failed must not look like one that did not.
        losses = np.concatenate(losses) if isinstance(losses, list) else losses
        metrics[f"{prefix}_loss"] = losses.mean().item()
    for name in list(metrics):
        if not name.startswith(f"{prefix}_"):
            metrics[f"{prefix}_{name}"] = metrics.pop(name)
    return metrics


def length_of(dataset: Any) -> int | None:
    """How many samples a dataset has; None where it cannot tell."""
    try:
        return len(dataset)
    except (TypeError, AttributeError, NotImplementedError):
        return None
