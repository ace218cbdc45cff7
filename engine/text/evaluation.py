"""How well a model predicts text that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...schemas.errors import DataError


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Dropout off and no gradients inside; each module gets its own mode back, whatever happens."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, training in modes:
            module.training = training


def evaluate_loss(model: nn.Module, batches: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """The mean loss over all characters of ``batches``, in nats per character, as ``loss``.

    Each batch is the keyword arguments of a model that returns something with ``.loss``, the mean
    over the batch's ``labels``. The device is read once, at the end.
    Raises DataError where there is no character to score.
    """
    device = next(model.parameters()).device
    total = torch.zeros((), device=device)
    num_characters = 0
    with evaluation_mode(model):
        for batch in batches:
            on_device = {name: value.to(device) for name, value in batch.items()}
            num_scored = batch["labels"].numel()
            total += model(**on_device).loss * num_scored
            num_characters += num_scored
    if not num_characters:
        raise DataError("There was no held-out character to evaluate on; give more text.")
    return {"loss": float(total) / num_characters}
