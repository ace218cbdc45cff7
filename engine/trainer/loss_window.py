"""The Trainer's losses since the last log, added up on the device as the reference adds them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..log_window import LogWindow
from ..metric_buffer import read


class LossWindow(LogWindow):
    """A log window whose loss is given by micro-batches and counted by steps.

    The sum is float32 and stays on the device; the order of the additions is the reference's, so
    that logged losses are equal to its bit for bit.
    """

    def __init__(self) -> None:
        super().__init__()
        self._sum: Tensor | None = None
        self._carried = 0.0
        """The sum in the checkpoint that a resumed run begins with."""
        self.num_steps = 0
        """Steps since the last log."""
        self._total = 0.0
        self._total_steps = 0

    def add_micro_batch(self, loss: Tensor) -> None:
        """Takes the share of a step's loss that a micro-batch gave; does not wait for it."""
        if self._sum is None:
            self._sum = torch.tensor(self._carried, dtype=torch.float32, device=loss.device)
            self._carried = 0.0
        self._sum += loss

    @property
    def empty(self) -> bool:
        """Whether there is nothing to log."""
        return super().empty and not self.num_steps

    def take(self) -> dict[str, Any]:
        """What there is to log, and a new window; waits for the device."""
        values = super().take()
        if self.num_steps:
            total = self._rest()
            values = {"loss": total / self.num_steps} | values
            self._total += total
            self._total_steps += self.num_steps
            self._carried = 0.0
            if self._sum is not None:
                self._sum.zero_()
        self.num_steps = 0
        return values

    def mean_loss_of_run(self) -> float:
        """The mean loss over all steps of this attempt and those it continues; 0 without any."""
        rest = self._rest()
        return (self._total + rest) / max(self._total_steps + self.num_steps, 0.001)

    def state_dict(self) -> dict[str, Any]:
        """The window for a checkpoint; reads what is on the device."""
        own = [self._rest(), self.num_steps, self._total, self._total_steps]
        return super().state_dict() | {"by_micro_batch": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the window of a checkpoint."""
        super().load_state_dict(state)
        own = state.get("by_micro_batch", (0.0, 0, 0.0, 0))
        self._sum = None
        self._carried, self.num_steps, self._total, self._total_steps = own

    def _rest(self) -> float:
        return read(self._sum) if self._sum is not None else self._carried


def step_loss(losses: list[Tensor]) -> Tensor:
    """The loss of one step out of its micro-batches' shares."""
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
