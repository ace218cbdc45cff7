"""Dispatchers that people use today, each with some handlers that do nothing."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable
from typing import Any, Protocol


class Missing(Exception):
    """A peer is not installed; the message says what to do."""


class Dispatcher(Protocol):
    """Something that hands an event to handlers."""

    def emit_batch(self, count: int) -> None:
        """Hands over `count` events."""

    def settle(self) -> None:
        """Waits until all have been handled."""

    def close(self) -> None:
        """Lets go of what it holds."""


class Immediate:
    """A dispatcher that calls its handlers before it returns."""

    def __init__(self, emit: Callable[[], object]) -> None:
        self._emit = emit

    def emit_batch(self, count: int) -> None:
        """Emits."""
        emit = self._emit
        for _ in range(count):
            emit()

    def settle(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """It holds nothing."""


class Bubus:
    """bubus's bus, on a loop of its own."""

    slow = True

    def __init__(self, num_handlers: int) -> None:
        os.environ.setdefault("BUBUS_LOGGING_LEVEL", "ERROR")
        bubus = _package("bubus")
        self._runner = asyncio.Runner()
        event = type("StepEnd", (bubus.BaseEvent,), {"__annotations__": {"loss": float}})
        self._event: Callable[..., Any] = event
        # Without a limit of its history: its default raises once 100 events are pending.
        self._bus = bubus.EventBus(max_history_size=None)
        for number in range(num_handlers):
            self._bus.on("StepEnd", _handler(number))

    def emit_batch(self, count: int) -> None:
        """Dispatches, and waits for the handlers."""
        self._runner.run(self._emit(count))

    async def _emit(self, count: int) -> None:
        for _ in range(count):
            await self._bus.dispatch(self._event(loss=1.0))

    def settle(self) -> None:
        """All has been handled."""

    def close(self) -> None:
        """Stops the bus and its loop."""
        self._runner.run(self._bus.stop(timeout=0))
        self._runner.close()


def _handler(number: int) -> Callable[[Any], None]:
    def ignore(event: Any) -> None:
        """A handler that does nothing."""

    ignore.__name__ = f"ignore_{number}"
    return ignore


def hugging_face(num_handlers: int) -> Immediate:
    """transformers' `CallbackHandler`, with callbacks that override `on_step_end`."""
    package = _package("transformers")
    callback_module = importlib.import_module("transformers.trainer_callback")
    # It would list all of them for each that is added.
    importlib.import_module("transformers.utils.logging").set_verbosity_error()

    class Ignoring(package.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """Does nothing."""

    handler = callback_module.CallbackHandler(
        [Ignoring() for _ in range(num_handlers)], None, None, None, None
    )
    args, state = object(), callback_module.TrainerState()
    control = callback_module.TrainerControl()
    return Immediate(lambda: handler.on_step_end(args, state, control))


def blinker(num_handlers: int) -> Immediate:
    """A blinker signal."""
    signal = _package("blinker").Signal()
    receivers = [lambda sender, **values: None for _ in range(num_handlers)]
    for receiver in receivers:
        signal.connect(receiver, weak=False)
    return Immediate(lambda: signal.send("trainer", loss=1.0, grad_norm=1.0))


def pyee(num_handlers: int) -> Immediate:
    """A pyee emitter."""
    emitter = _package("pyee").EventEmitter()
    for _ in range(num_handlers):
        emitter.on("step_end", lambda **values: None)
    return Immediate(lambda: emitter.emit("step_end", loss=1.0, grad_norm=1.0))


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Missing("not installed (pip install 'stepbus[bench]')") from None


PEERS: dict[str, Callable[[int], Dispatcher]] = {
    "transformers' CallbackHandler": hugging_face,
    "blinker": blinker,
    "pyee": pyee,
    "bubus": Bubus,
}
