"""A tracker whose server takes connections and what comes through them, and falls silent."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, ClassVar

from stepbus import ExperimentRun, ExperimentTracker
from stepbus.subscribers.trackers.experiment_hooks import Value


class HangingTracker(ExperimentTracker):
    """Waits for an answer to each value, without a timeout, as some clients do.

    Args:
        port: of the server, on loopback.
        from_step: the first step whose values it sends.
    """

    tracker_name: ClassVar[str] = "hanging"

    def __init__(self, port: int, from_step: int) -> None:
        super().__init__()
        self._port = port
        self._from_step = from_step

    def made_with(self) -> Mapping[str, Any]:
        """Its arguments."""
        return {"port": self._port, "from_step": self._from_step}

    def start(self, run: ExperimentRun) -> None:
        """Nothing is asked yet."""

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Sends them, and waits."""
        if step < self._from_step:
            return
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            connection.sendall(repr(dict(metrics)).encode())
            connection.recv(1)
