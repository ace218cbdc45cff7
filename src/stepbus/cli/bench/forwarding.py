"""Callbacks of Hugging Face's shape, called with events instead of from the training thread."""

from __future__ import annotations

import functools
import inspect
from types import SimpleNamespace
from typing import Any, ClassVar

from ...bus import Subscriber
from ...bus.subscriber import overridden_hooks
from ...schemas import Event, TrainBegin, TrainerControl
from .naming import resolve

WITHOUT = (
    "model",
    "processing_class",
    "optimizer",
    "lr_scheduler",
    "train_dataloader",
    "eval_dataloader",
)
"""Keywords that are None beside the step."""


class Forwarding(Subscriber):
    """Calls a callback's hooks with snapshots: to learn what it would cost beside the step.

    Its hooks get the run's arguments, the state as it was, a control that nobody reads, and `logs`
    or `metrics`; model, optimizer and loaders are None. What needs those fails, and is counted.

    Args:
        arguments: what the callback is made with.
    """

    target: ClassVar[str]
    """Of the callback, `module:name`."""

    def __init__(self, **arguments: Any) -> None:
        found = resolve(self.target)
        self._callback = found(**arguments) if inspect.isclass(found) else found
        self._args: Any = SimpleNamespace()

    def forward(self, event: Event) -> None:
        """Calls the hook of the event."""
        if isinstance(event, TrainBegin):
            self._args = SimpleNamespace(**event.arguments)
        keywords: dict[str, Any] = dict.fromkeys(WITHOUT)
        for name in ("logs", "metrics"):
            if hasattr(event, name):
                keywords[name] = dict(getattr(event, name))
        hook = getattr(self._callback, f"on_{event.name}", None)
        if hook is not None:
            hook(self._args, event.state, TrainerControl(), **keywords)


@functools.cache
def forwarding_to(target: str) -> type[Forwarding]:
    """A class of subscribers that forward to a callback the events that it has hooks for.

    Another process finds it under its name in this module, see `__getattr__`.
    """
    found = resolve(target)
    callback = object.__new__(found) if inspect.isclass(found) else found
    name = target.replace(".", "/")
    body: dict[str, Any] = {"target": target, "__module__": __name__, "__qualname__": name}
    for kind in {"train_begin", *overridden_hooks(callback)}:
        body[f"on_{kind}"] = Forwarding.forward
    return type(name, (Forwarding,), body)


def __getattr__(name: str) -> type[Forwarding]:
    if ":" not in name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return forwarding_to(name.replace("/", "."))
