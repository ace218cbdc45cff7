"""Subclasses of a Trainer that override losses, steps and logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F


def own_loss(base: Any) -> Any:
    """The usual override: no word of `num_items_in_batch`."""

    class Trainer(base):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = F.l1_loss(outputs[0], labels)
            return (loss, (loss, *outputs)) if return_outputs else loss

    return Trainer


def own_loss_of_items(base: Any) -> Any:
    """Takes the number of items of the whole step."""

    class Trainer(base):  # type: ignore[misc]
        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            found = model(inputs["x"])[0]
            total = F.mse_loss(found, inputs["labels"], reduction="sum")
            count = inputs["labels"].numel() if num_items_in_batch is None else num_items_in_batch
            return (total / count, (total, found)) if return_outputs else total / count

    return Trainer


def scaled(value: bool | None, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Says whether its loss is scaled for accumulation."""
    return lambda base: type("Trainer", (make(base),), {"loss_is_scaled_for_ga": value})


def logging_own(base: Any) -> Any:
    """Logs values of its own from the loss, and adds to every log."""

    class Trainer(base):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            result = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            self.last = float(result[0].detach())
            return result if return_outputs else result[0]

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            logs["last"] = self.last
            super().log(logs, start_time)

    return Trainer


def logging_less(base: Any) -> Any:
    """Older signature; leaves something out."""

    class Trainer(base):  # type: ignore[misc]
        def log(self, logs: dict[str, float], *args: Any) -> None:
            logs.pop("grad_norm", None)
            super().log({f"own/{name}": value for name, value in logs.items()}, *args)

    return Trainer


def own_step(base: Any) -> Any:
    """Calls the step of its base and does more."""

    class Trainer(base):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            loss = super().training_step(model, inputs, num_items_in_batch)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.grad.mul_(0.5)
            return loss * 2

    return Trainer


def whole_step(base: Any) -> Any:
    """Does the step by itself."""

    class Trainer(base):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            model.train()
            inputs = self._prepare_inputs(inputs)
            loss = model(**inputs)[0] / self.args.gradient_accumulation_steps
            loss.backward()
            return loss.detach()

    return Trainer
