"""Histograms of a model's parameters and gradients, for a subscriber that says it watches them."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from ..bus.diagnostics import get_logger
from ..schemas import TrainerState
from ..schemas.errors import StepbusError
from .histograms import Histograms

log = get_logger()

EVERY = 100
"""Optimizer steps between two looks, or `logging_steps` where that is more; as in the reference."""


class Watching:
    """Counts them before the optimizer steps, on the device that they are on, for a with block.

    Whichever optimizer it is, as long as it steps parameters of this model.

    Args:
        model: what is watched.
        state: of the run.
        histograms: where they are counted.
        what: gradients, parameters or all.
    """

    def __init__(
        self, model: nn.Module, state: TrainerState, histograms: Histograms, what: str
    ) -> None:
        self._named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self._own = {id(parameter) for _, parameter in self._named}
        self._state = state
        self._histograms = histograms
        self._gradients = what in ("gradients", "all")
        self._parameters = what in ("parameters", "all")
        self._looked_at = 0
        self._handle: RemovableHandle | None = None

    def __enter__(self) -> Self:
        self._handle = register_optimizer_step_pre_hook(self._before)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.remove()

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        step = self._state.global_step + 1
        every = max(EVERY, int(self._state.logging_steps or 0))
        if step % every or step == self._looked_at or not self._steps_own(optimizer):
            return
        self._looked_at = step
        try:
            self._look()
        except StepbusError as error:
            self._remove()
            log.warning(f"the model is watched no further: {error}")

    def _steps_own(self, optimizer: torch.optim.Optimizer) -> bool:
        return any(id(p) in self._own for group in optimizer.param_groups for p in group["params"])

    def _look(self) -> None:
        for name, parameter in self._named:
            if self._parameters:
                self._histograms.add(f"parameters/{name}", parameter.detach())
            if self._gradients and parameter.grad is not None:
                self._histograms.add(f"gradients/{name}", parameter.grad.detach())
