"""The lease of a checkpoint as a handler in a sidecar holds it: the trainer keeps the folder."""

from __future__ import annotations

from collections.abc import Callable

from ..lease import Lease


class FarLease(Lease):
    """Tells the trainer who holds the folder of a `Save` event beyond its handler.

    Args:
        at: the position of the event in its subscriber's stream.
        send: takes a message for the trainer.
    """

    def __init__(self, at: int, send: Callable[..., None]) -> None:
        super().__init__()
        self._at = at
        self._send = send

    def acquire(self, holder: str) -> None:
        """Keeps the folder until `release`; to be called first while the handler runs."""
        super().acquire(holder)
        self._send("held", at=self._at, holder=holder)

    def release(self, holder: str) -> None:
        """Ends one `acquire` of that holder."""
        if holder in self.holders:
            super().release(holder)
            self._send("released", at=self._at, holder=holder)
