"""What handlers measured, on its way from them to the run's next log."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ..schemas.values import Scalar


class MeasuredValues:
    """Values of one run that wait for its next log round; the newest of each name.

    Handlers add from any thread, and the training thread takes them where it logs anyway, so that
    nothing waits and no value makes an event of its own: none can come back to who measured it as
    a reason to measure again, and none is on its way when the bus closes.
    """

    def __init__(self) -> None:
        self.waiting: dict[str, Scalar] = {}
        """Those that no log has had; looked at before `take` is called."""
        self._newest: dict[str, Scalar] = {}
        self._closed = False
        self._lock = threading.Lock()

    def add(self, values: Mapping[str, Scalar]) -> bool:
        """Takes values from a handler; False where no log follows that they could stand in."""
        with self._lock:
            if self._closed:
                return False
            self.waiting.update(values)
            self._newest.update(values)
        return True

    def take(self) -> dict[str, Scalar]:
        """Those that wait, for the log that is being made."""
        with self._lock:
            taken, self.waiting = self.waiting, {}
        return taken

    def close(self) -> dict[str, Scalar]:
        """The newest of each name, for the closing figures; what comes later is refused."""
        with self._lock:
            self._closed = True
            self.waiting = {}
            return dict(self._newest)
