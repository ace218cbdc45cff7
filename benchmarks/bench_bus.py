"""A bus with an open run and some subscribers that do nothing: what the hot path is measured on.

Needs no torch, so that the memory of a process that imports it is the bus's.
"""

from __future__ import annotations

from stepbus import EventBus, TrainerState
from stepbus.bus import RunLink
from stepbus.bus.emitter import Emitter

VALUES = {"loss": 1.0, "grad_norm": 1.0, "learning_rate": 1e-3, "step_s": 4e-4}


class Bench:
    """A bus with some subscribers and an open run."""

    def __init__(self, num_subscribers: int) -> None:
        self.bus = EventBus()
        for number in range(num_subscribers):
            self.bus.subscribe("step_end", name=f"subscriber-{number}", overflow="drop_oldest")(
                ignore
            )
        self.bus.start()
        self.link: RunLink = self.bus.open_run(TrainerState())
        self.emitter: Emitter = self.link.emitters["step_end"]

    def emit_batch(self, count: int) -> None:
        """Emits as the engine does: it looks first whether anybody listens."""
        emitter = self.emitter
        for _ in range(count):
            if emitter.wanted:
                emitter.emit(VALUES)

    def settle(self) -> None:
        """Waits until all of it has been handled."""
        self.bus.flush(10)

    def close(self) -> None:
        """Ends the run and the bus."""
        self.bus.close_run(self.link)
        self.bus.close()


def ignore(event: object) -> None:
    """A subscriber that does nothing."""
