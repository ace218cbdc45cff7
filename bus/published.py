"""A user's own event on its way through the queue."""

from __future__ import annotations

from typing import Any

from ..schemas import Event
from .run_link import Numbering, RunLink


class Published:
    """An event that was published, with the state of its run at that moment."""

    __slots__ = ("event", "link", "monotonic", "num_rows", "numbering", "rest", "step_epoch")

    def __init__(
        self,
        event: Event,
        link: RunLink | None,
        monotonic: float,
        numbering: Numbering | None = None,
    ) -> None:
        self.event = event
        self.link = link
        self.numbering = link.numbering if link is not None else numbering
        self.monotonic = monotonic
        if link is not None:
            self.step_epoch = (link.state.global_step, link.state.epoch)
            self.rest = link.rest()
            self.num_rows = len(self.rest.history)

    @property
    def run(self) -> tuple[str, int]:
        """Run and attempt, under which filters count."""
        return self.link.key if self.link is not None else ("", 0)

    def complete(self, seq: int, wall_offset: float) -> Event:
        """The event with its header filled in."""
        update: dict[str, Any] = {
            "seq": seq,
            "monotonic": self.monotonic,
            "time": self.monotonic + wall_offset,
        }
        link = self.link
        if link is None:
            return self.event.model_copy(update=update).attach_state_of(self.event)
        update |= link.header
        update["step"], update["epoch"] = self.step_epoch
        return self.event.model_copy(update=update).attach_state(self.rest, self.num_rows)
