"""Events on their way through the queue that no emitter captured: users' own, and handed on."""

from __future__ import annotations

from typing import Any

from ..schemas import Event
from .emitter import Captured, build
from .run_link import Numbering, RunLink
from .subscription import Subscription


class Published:
    """An event that was published, with the state of its run at that moment."""

    __slots__ = ("event", "link", "mark", "monotonic", "numbering", "step_epoch")

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
            self.mark = link.mark()

    @property
    def run(self) -> tuple[str, int]:
        """Run and attempt, under which filters count."""
        return self.link.key if self.link is not None else (self.event.run_id, 0)

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
        return self.event.model_copy(update=update).attach_state(self.mark)


class HandedOn:
    """An event for one subscription alone: what a callback made of a call in the gate."""

    __slots__ = ("_content", "_link", "captured", "subscription")

    def __init__(
        self, subscription: Subscription, content: Captured | Event, link: RunLink | None
    ) -> None:
        self.subscription = subscription
        self.captured = content if isinstance(content, Captured) else None
        """What is built once its values have come from the device."""
        self._content = content
        self._link = link

    @property
    def run(self) -> tuple[str, int]:
        """Run and attempt, under which filters count."""
        return self._link.key if self._link is not None else ("", 0)

    def complete(self, wall_offset: float) -> Event:
        """The event. It takes no number of its own: its `seq` is what the run has reached."""
        seq = self._link.numbering.next - 1 if self._link is not None else -1
        content = self._content
        if isinstance(content, Captured):
            return build(content, seq, wall_offset)
        event = content.model_copy(update={"seq": seq}).attach_state_of(content)
        if content.name == "save":
            object.__setattr__(event, "lease", content.lease)  # type: ignore[attr-defined]
        return event
