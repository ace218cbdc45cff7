"""The loss of a micro-batch, and over how many items it is taken."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...bus.diagnostics import get_logger
from ...schemas.errors import ArgumentError
from .columns import base_model, is_peft, unwrapped
from .label_smoothing import LabelSmoother

log = get_logger()

IGNORED = -100
"""The label of what does not count."""


def accepts_loss_kwargs(model: nn.Module) -> bool:
    """Whether the model takes `num_items_in_batch`: it says so, or its forward has `**kwargs`."""
    model = base_model(unwrapped(model))
    if hasattr(model, "accepts_loss_kwargs"):
        return bool(model.accepts_loss_kwargs)
    kinds = [each.kind for each in inspect.signature(model.forward).parameters.values()]
    return inspect.Parameter.VAR_KEYWORD in kinds


def loss_shifts_labels(model: nn.Module) -> bool:
    """Whether the model's loss is the causal one of transformers, with place i for label i + 1."""
    model = base_model(unwrapped(model))
    config = getattr(model, "config", None)
    if "transformers" not in sys.modules or getattr(config, "is_encoder_decoder", False):
        return False
    losses = importlib.import_module("transformers.loss.loss_utils")
    loss = losses.LOSS_MAPPING.get(getattr(model, "loss_type", None))
    return bool(loss is losses.ForCausalLMLoss)


def smoothing_shifts_labels(model: nn.Module) -> bool:
    """Whether smoothed labels are shifted: the model is one of transformers' causal ones."""
    model = unwrapped(model)
    name = type(base_model(model) if is_peft(model) else model).__name__
    return "transformers" in sys.modules and name in _causal_names()


@functools.cache
def _causal_names() -> frozenset[str]:
    auto = importlib.import_module("transformers.models.auto.modeling_auto")
    return frozenset(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())


def num_items_in_batch(
    batch_samples: Sequence[Any],
    *,
    shifts_labels: bool = False,
    device: torch.device | None = None,
) -> Tensor | None:
    """How many labels of a step's micro-batches count, or None where that cannot be told.

    Args:
        batch_samples: the micro-batches.
        shifts_labels: the loss of the model leaves out the first place of each row.
        device: where the count is wanted; by default where the labels are.

    Returns:
        A float32 tensor without dimensions. Nothing is read from the device.
    """
    if not batch_samples or "labels" not in batch_samples[0]:
        return None
    total: Tensor | None = None
    try:
        for batch in batch_samples:
            if "shift_labels" in batch:
                labels = batch["shift_labels"]
            else:
                labels = batch["labels"][..., 1:] if shifts_labels else batch["labels"]
            count = labels.ne(IGNORED).sum()
            total = count if total is None else total + count
    except (TypeError, AttributeError):  # labels of several parts, as in object detection
        return None
    assert total is not None
    # Models get a float from the reference, which divides by the ranks that share a batch.
    dtype = torch.get_default_dtype()
    if total.is_cpu and device is not None and device.type != "cpu":
        # Filled there, since a copy to the device would make the host wait for it.
        return torch.full((), total.item(), dtype=dtype, device=device)
    return total.to(device=device, dtype=dtype)


class TrainerLoss:
    """`compute_loss`, for the `Trainer` to inherit."""

    args: Any
    model: nn.Module
    label_smoother: LabelSmoother | None
    compute_loss_func: Callable[..., Any] | None
    model_accepts_loss_kwargs: bool
    _loss_shifts_labels: bool
    _said_no_labels: bool = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The loss of a micro-batch; override it for one of your own.

        Args:
            model: what to call.
            inputs: the model's arguments by name. `labels` is taken out of them for label
                smoothing and for a `compute_loss_func`.
            return_outputs: give back what the model returned as well.
            num_items_in_batch: what the loss is divided by, instead of its own number of items.

        Returns:
            The loss, or the loss and what the model returned.

        Raises:
            ArgumentError: the model returned no loss.
        """
        own = self.compute_loss_func
        labels = None
        if (own is not None or self.label_smoother is not None) and "labels" in inputs:
            labels = inputs.pop("labels")
        if self.model_accepts_loss_kwargs and num_items_in_batch is not None:
            outputs = model(**{**inputs, "num_items_in_batch": num_items_in_batch})
        else:
            outputs = model(**inputs)
        if own is not None:
            if labels is None:
                self._say_no_labels(inputs)
            loss = own(outputs, labels, num_items_in_batch=num_items_in_batch)
        elif labels is not None:
            loss = self._smoothed(model, outputs, labels, num_items_in_batch)
        else:
            loss = loss_of(outputs, inputs)
        return (loss, outputs) if return_outputs else loss

    def _num_items_in_batch(self, batch_samples: Sequence[Any]) -> Tensor | None:
        """What the loss of these micro-batches is divided by; None for the mean of each."""
        if not self.model_accepts_loss_kwargs and self.compute_loss_func is None:
            return None
        return num_items_in_batch(
            batch_samples, shifts_labels=self._loss_shifts_labels, device=self.args.device
        )

    def _smoothed(
        self, model: nn.Module, outputs: Any, labels: Tensor, num_items: Tensor | int | None
    ) -> Tensor:
        assert self.label_smoother is not None
        shifts = smoothing_shifts_labels(model)
        return self.label_smoother(
            outputs, labels, shift_labels=shifts, num_items_in_batch=num_items
        )

    def _say_no_labels(self, inputs: Iterable[str]) -> None:
        if not self._said_no_labels:
            self._said_no_labels = True
            log.warning(
                "compute_loss_func is called with labels=None: the batches have no 'labels', only "
                f"{', '.join(inputs)}."
            )


def loss_of(outputs: Any, inputs: Mapping[str, Any]) -> Any:
    """The loss among what a model returned: by that name, or first in a tuple or list.

    Args:
        outputs: what the model returned.
        inputs: what it was given, named in messages.

    Raises:
        ArgumentError: there is none.
    """
    if isinstance(outputs, dict):
        loss = outputs.get("loss")
    elif isinstance(outputs, Tensor):
        loss = outputs if outputs.numel() == 1 else None
    elif isinstance(outputs, tuple | list):
        loss = outputs[0] if outputs else None
        if isinstance(loss, Tensor) and loss.ndim and not _has_labels(inputs):
            loss = None  # without labels it is the logits that come first
    else:
        loss = getattr(outputs, "loss", None)
    if loss is None:
        raise ArgumentError(_no_loss(outputs, inputs))
    return loss


def _no_loss(outputs: Any, inputs: Mapping[str, Any]) -> str:
    if isinstance(outputs, dict):
        returned = f"only {', '.join(map(str, outputs))}"
    elif isinstance(outputs, Tensor):
        returned = f"but a tensor of shape {tuple(outputs.shape)}"
    else:
        returned = f"but a {type(outputs).__name__}"
    message = f"The model returned no loss, {returned}; it was given {', '.join(map(str, inputs))}."
    if not _has_labels(inputs):
        return (
            f"{message} No label is among these: the data may have none, the collator may drop "
            "them, or remove_unused_columns does because the model's forward does not name them. "
            "Name them in label_names, set remove_unused_columns=False, or compute the loss "
            "yourself (compute_loss_func, or a subclass with its own compute_loss)."
        )
    return (
        f"{message} Let the model return it first or as 'loss', or compute it yourself "
        "(compute_loss_func, or a subclass with its own compute_loss)."
    )


def _has_labels(inputs: Mapping[str, Any]) -> bool:
    return any("label" in str(name) for name in inputs)
