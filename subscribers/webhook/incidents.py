"""Which values that are not finite belong to one incident, of which one message is enough."""

from __future__ import annotations

from ...schemas import NonFinite


class Incidents:
    """The incidents of one run.

    One that goes on from step to step is one incident; so is one that comes back within so many
    seconds. A gradient norm that is not finite while the loss is not either is no other incident.

    Args:
        same_within_s: what comes back within so many seconds is the same.
    """

    def __init__(self, same_within_s: float) -> None:
        self._same_within_s = same_within_s
        self._heard_s: dict[str, float] = {}

    def is_new(self, event: NonFinite) -> bool:
        """Whether an event begins an incident."""
        values = {event.value, "loss"}
        goes_on = event.in_a_row > 1 and event.value in self._heard_s
        recent = any(
            event.monotonic - self._heard_s[value] <= self._same_within_s
            for value in values & self._heard_s.keys()
        )
        self._heard_s[event.value] = event.monotonic
        return not (goes_on or recent)
