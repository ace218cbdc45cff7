"""`pre_optimizer_step` and `optimizer_step`, announced wherever the optimizer is stepped."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import torch
from torch.utils.hooks import RemovableHandle

from ..bus import RunLink


class OptimizerHooks:
    """Emits around `optimizer.step()`, in a loop of the user's own too, for a with block.

    The optimizer has hooks only while somebody listens, since it pays for them at each step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, link: RunLink) -> None:
        self._optimizer = _innermost(optimizer)
        self._link = link
        self._pre = link.emitters["pre_optimizer_step"]
        self._post = link.emitters["optimizer_step"]
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        self._link.follow_listeners(self._follow)
        return self

    def _follow(self) -> None:
        wanted = self._pre.active or self._post.active
        if wanted and not self._handles:
            self._handles = [
                self._optimizer.register_step_pre_hook(self._before),
                self._optimizer.register_step_post_hook(self._after),
            ]
        elif not wanted:
            self._remove()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._link.follow_listeners(lambda: None)
        self._remove()

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _before(self, *_: Any) -> None:
        if self._pre.active:
            self._link.fire(self._pre)

    def _after(self, *_: Any) -> None:
        if self._post.active:
            self._link.fire(self._post)


def _innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The one that keeps the hooks: Accelerate's wrapper is an optimizer by its class alone."""
    inner = getattr(optimizer, "optimizer", None)
    if hasattr(optimizer, "_optimizer_step_pre_hooks") or not isinstance(
        inner, torch.optim.Optimizer
    ):
        return optimizer
    return _innermost(inner)
