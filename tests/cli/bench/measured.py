"""Subscribers and callbacks for `stepbus bench` to measure; torch is not imported."""

from __future__ import annotations

import time
from typing import Any

from stepbus import Event, Log, StepEnd, Subscriber, TrainerCallback


class Light(Subscriber):
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def on_log(self, event: Log) -> None:
        self.count += 1


class Heavy(Subscriber):
    """Burns Python for some milliseconds at each step."""

    def __init__(self, ms: float = 8.0) -> None:
        self.ms = ms

    def on_step_end(self, event: StepEnd) -> None:
        end = time.perf_counter() + self.ms / 1e3
        while time.perf_counter() < end:
            pass


class Asynchronous(Subscriber):
    """Runs on the loop."""

    async def on_log(self, event: Log) -> None:
        pass


class Raising(Subscriber):
    """Fails at each log."""

    def on_log(self, event: Log) -> None:
        raise ValueError("always")


class Callback(TrainerCallback):
    """Of Hugging Face's shape."""

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if "loss" not in kwargs["logs"] and "train_loss" not in kwargs["logs"]:
            raise KeyError("loss")
        if args.logging_steps < 1 or state.global_step < 1:
            raise ValueError("no arguments or no state came with it")


class Empty(TrainerCallback):
    """Overrides nothing."""


def function(event: Event) -> None:
    """Takes any event."""


def broken(a: int, b: int) -> None:
    """Takes no event."""


NUMBER = 3
