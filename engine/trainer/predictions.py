"""What evaluations, predictions and trainings give back, and what `compute_metrics` is given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple


class EvalPrediction:
    """What `compute_metrics` is given: unpack it, index it, or use its attributes.

    `predictions, labels = given` works for the two that are always there; the inputs and the
    losses follow them, in this order, where `include_for_metrics` asks for them.

    Args:
        predictions: what the model gave, samples first.
        label_ids: what it should have given, samples first.
        inputs: the model's main input, or None.
        losses: one loss per sample (that of its batch), or None.
    """

    def __init__(
        self,
        predictions: Any,
        label_ids: Any,
        inputs: Any = None,
        losses: Any = None,
    ) -> None:
        self.predictions = predictions
        self.label_ids = label_ids
        self.inputs = inputs
        self.losses = losses
        asked_for = tuple(extra for extra in (inputs, losses) if extra is not None)
        self.elements: tuple[Any, ...] = (predictions, label_ids, *asked_for)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.elements)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self.elements):
            raise IndexError(
                f"Element {index} of an EvalPrediction with {len(self.elements)} elements: "
                "inputs and losses are there only if include_for_metrics names them."
            )
        return self.elements[index]


class EvalLoopOutput(NamedTuple):
    """What `evaluation_loop` gives back."""

    predictions: Any
    """Array, tuple of arrays, or None where only the loss was asked for."""
    label_ids: Any
    """Array, tuple of arrays, or None."""
    metrics: dict[str, Any] | None
    """Metrics by prefixed name."""
    num_samples: int | None
    """Samples in the dataset, or those that were seen where it has no length."""


class PredictionOutput(NamedTuple):
    """What `predict` gives back."""

    predictions: Any
    """Array, tuple of arrays, or None where only the loss was asked for."""
    label_ids: Any
    """Array, tuple of arrays, or None where the data has no labels."""
    metrics: dict[str, Any] | None
    """Metrics by prefixed name."""


class TrainOutput(NamedTuple):
    """What `train` gives back."""

    global_step: int
    """Optimizer steps done."""
    training_loss: float
    """Mean loss over the steps of this call."""
    metrics: dict[str, Any]
    """The closing figures: `train_runtime` and others."""
