"""Which training a process serves."""

from __future__ import annotations

_pid: int | None = None


def trainer_pid() -> int | None:
    """The id of the process whose subscribers this one serves; None outside of a sidecar."""
    return _pid


def serve_trainer(pid: int) -> None:
    """Says which one; for the sidecar's loop."""
    global _pid
    _pid = pid
