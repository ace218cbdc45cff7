"""The Trainer's losses since the last log, added up on the device as the reference adds them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..log_window import LogWindow
from ..metric_buffer import Number, number_of


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

    def add_micro_batch(self, loss: Tensor) -> None:
        """Takes the share of a step's loss that a micro-batch gave; does not wait for it."""
        if self._sum is None:
            # Filled on the device, since a copy to it would make the host wait.
            self._sum = loss.new_full((), self._carried, dtype=torch.float32)
            self._carried = 0.0
        self._sum += loss

    def mean_loss_of_run(self) -> float:
        """The mean loss over all steps of this attempt and those it continues; 0 without any."""
        return super().mean_loss_of_run() or 0.0

    def state_dict(self) -> dict[str, Any]:
        """The window for a checkpoint; waits for what is on the device."""
        own = [self._read_loss(), self.num_steps, self._read_run_loss(), self._run_steps]
        nothing: dict[str, Any] = {"loss": [0.0, 0], "run_loss": [0.0, 0]}
        return super().state_dict() | nothing | {"by_micro_batch": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the window of a checkpoint."""
        own = state.get("by_micro_batch", (0.0, 0, 0.0, 0))
        super().load_state_dict(state | {"loss": own[:2], "run_loss": own[2:]})

    @property
    def _loss_count(self) -> int:
        return self.num_steps

    def _loss_total(self) -> Number:
        return self._carried if self._sum is None else self._sum

    def _load_loss(self, total: float, count: int) -> None:
        self._sum = None
        self._carried, self.num_steps = total, count

    def _begin_anew(self) -> None:
        self.num_steps = 0
        self._carried = 0.0
        if self._sum is not None:
            self._sum.zero_()


def step_loss(losses: list[Tensor]) -> float | Tensor:
    """The loss of one step out of its micro-batches' shares; on the CPU the number."""
    if losses[0].is_cpu:
        return sum(map(number_of, losses)) if len(losses) > 1 else number_of(losses[0])
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()
