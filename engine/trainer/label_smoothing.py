"""Label smoothing: a loss that gives the other labels a share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclasses.dataclass
class LabelSmoother:
    """The smoothed cross-entropy of a model's output.

    Args:
        epsilon: share of the loss that all labels get alike.
        ignore_index: label of the places that do not count.
    """

    epsilon: float = 0.1
    ignore_index: int = -100

    def __call__(
        self,
        model_output: Any,
        labels: Tensor,
        shift_labels: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The loss, a tensor without dimensions.

        Args:
            model_output: the logits by that name or first in a sequence, (..., places, labels).
            labels: of the places, (..., places).
            shift_labels: each place predicts the label of the next one.
            num_items_in_batch: what the sum is divided by; by default the places that count.
        """
        logits = model_output["logits"] if isinstance(model_output, Mapping) else model_output[0]
        if shift_labels:
            logits, labels = logits[..., :-1, :].contiguous(), labels[..., 1:].contiguous()
        if labels.dim() < logits.dim():
            labels = labels.unsqueeze(-1)
        log_probs = F.log_softmax(logits, dim=-1)
        ignored = labels == self.ignore_index
        # Ignored labels may be out of range; what is picked for them is thrown away.
        of_label = log_probs.gather(-1, labels.clamp(min=0)).masked_fill(ignored, 0.0)
        # Summed in float32 over a vocabulary: half precision would not hold the sum.
        of_all = log_probs.sum(-1, keepdim=True, dtype=torch.float32).masked_fill(ignored, 0.0)
        count: Any = num_items_in_batch
        if count is None:
            count = (~ignored).sum()
        elif isinstance(count, Tensor):
            count = count.to(logits.device)
        hard = -of_label.sum() / count
        even = -of_all.sum() / (count * logits.shape[-1])
        loss: Tensor = (1 - self.epsilon) * hard + self.epsilon * even
        return loss
