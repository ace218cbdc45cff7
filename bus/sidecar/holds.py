"""The checkpoints that handlers in another process hold on to."""

from __future__ import annotations

from ...schemas import Event
from ..lease import Lease


class Holds:
    """Holds leases in the name of those that cannot reach them. For one subscriber."""

    def __init__(self) -> None:
        self._holds: list[tuple[int, str, Lease]] = []

    def hold(self, at: int, holder: str, event: Event | None) -> None:
        """Holds the folder of an event at a position of the stream; None where it is past."""
        lease: Lease | None = getattr(event, "lease", None)
        if lease is not None:
            lease.acquire(holder)
            self._holds.append((at, holder, lease))

    def release(self, at: int, holder: str) -> None:
        """Ends one hold."""
        for hold in self._holds:
            if hold[:2] == (at, holder):
                hold[2].release(holder)
                self._holds.remove(hold)
                return

    def release_all(self) -> None:
        """Ends all: whoever had them is gone."""
        while self._holds:
            _, holder, lease = self._holds.pop()
            lease.release(holder)
