"""What the Trainer does with one batch of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from .gathering import nested_detach
from .overrides import without_items


class PredictionStep:
    """`prediction_step`, for the `Trainer` to inherit."""

    model: nn.Module
    label_names: list[str]
    can_return_loss: bool
    compute_loss: Callable[..., Any]
    compute_loss_context_manager: Callable[[], AbstractContextManager[Any]]
    _num_items_in_batch: Callable[[list[Any]], Any]
    _prepare_inputs: Callable[[Any], Any]

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor | None, Any, Any]:
        """Runs the model on one batch; override it for models that predict in another way.

        Args:
            model: what to call.
            inputs: the model's arguments by name.
            prediction_loss_only: give back no logits and no labels.
            ignore_keys: outputs that are left out; by default those that the model's
                configuration names for it.

        Returns:
            The mean loss (None without labels), the logits and the labels, each a tensor, a
            tuple of tensors or None, on the device.
        """
        names = self.label_names
        returns_loss = inputs.get("return_loss")
        if returns_loss is None:
            returns_loss = self.can_return_loss
        # Models that contrast their inputs (CLIP) have a loss though they have no labels.
        has_loss = all(inputs.get(n) is not None for n in names) if names else bool(returns_loss)
        inputs = self._prepare_inputs(inputs)
        # Taken before the loss is computed, which may take them out of the inputs.
        labels = _alone(nested_detach(tuple(inputs.get(n) for n in names))) if has_loss else None
        ignored = set(self._default_ignore_keys() if ignore_keys is None else ignore_keys)
        loss = None
        with torch.no_grad():
            if has_loss:
                num_items = self._num_items_in_batch([inputs])
                with self.compute_loss_context_manager():
                    compute_loss = without_items(self.compute_loss, "compute_loss")
                    loss, outputs = compute_loss(
                        model, inputs, return_outputs=True, num_items_in_batch=num_items
                    )
                loss = loss.detach().mean()
                ignored.add("loss")
            else:
                with self.compute_loss_context_manager():
                    outputs = model(**inputs)
        if prediction_loss_only:
            return loss, None, None
        return loss, _alone(nested_detach(_logits(outputs, ignored, after_loss=has_loss))), labels

    def _default_ignore_keys(self) -> list[str]:
        config = getattr(self.model, "config", None)
        if config is None:
            return []
        return list(getattr(config, "keys_to_ignore_at_inference", ["past_key_values"]))


def _logits(outputs: Any, ignored: set[str], *, after_loss: bool) -> Any:
    if isinstance(outputs, Mapping):
        return tuple(value for key, value in outputs.items() if key not in ignored)
    if isinstance(outputs, list | tuple) and after_loss:
        return outputs[1:]
    return outputs


def _alone(values: Any) -> Any:
    """The one value of a tuple or list that has no other."""
    return values[0] if isinstance(values, list | tuple) and len(values) == 1 else values
