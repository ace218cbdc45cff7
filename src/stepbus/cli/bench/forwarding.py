"""A callback of Hugging Face's shape, called with events instead of from the training thread."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ...bus import TrainerCallback
from ...bus.subscriber import overridden_hooks
from ...schemas import Event, TrainBegin, TrainerControl


class Forwarding:
    """Calls a callback's hooks with snapshots: to learn what it would cost beside the step.

    Its hooks get the run's arguments, the state as it was, a control that nobody reads, and `logs`
    or `metrics`; model, optimizer and loaders are None. What needs those fails, and is counted.
    """

    def __init__(self, callback: TrainerCallback) -> None:
        self.kinds: tuple[str, ...] = tuple(sorted({"train_begin", *overridden_hooks(callback)}))
        """The events to subscribe it to."""
        self._callback = callback
        self._args: Any = SimpleNamespace()
        self.__qualname__ = type(callback).__qualname__

    def __call__(self, event: Event) -> None:
        """Calls the hook of the event."""
        if isinstance(event, TrainBegin):
            self._args = SimpleNamespace(**event.arguments)
        keywords: dict[str, Any] = {
            name: getattr(event, name) for name in ("logs", "metrics") if hasattr(event, name)
        }
        keywords = {name: dict(values) for name, values in keywords.items()}
        for name in ("model", "processing_class", "optimizer", "lr_scheduler"):
            keywords[name] = None
        for name in ("train_dataloader", "eval_dataloader"):
            keywords[name] = None
        hook = getattr(self._callback, f"on_{event.name}", None)
        if hook is not None:
            hook(self._args, getattr(event, "state", None), TrainerControl(), **keywords)
