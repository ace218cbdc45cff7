"""Where the training thread waits for a device after all, and on whose account."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from ...bus import Deferred
from ...bus.deferred import fill, settled
from ...bus.run_account import RunAccount
from ...schemas.history import PendingRow


class Waits:
    """Puts numbers in place of what is on its way, and notes how long that took and why."""

    def __init__(self) -> None:
        self._account: RunAccount | None = None
        self._thread_id: int | None = None
        self._causes: list[str] = []

    def begin(self, account: RunAccount, thread_id: int) -> None:
        """A run has been opened: notes what its thread waits for on its account."""
        self._account, self._thread_id = account, thread_id

    @contextlib.contextmanager
    def because(self, cause: str) -> Iterator[None]:
        """Names the cause of all waits within a with block."""
        self._causes.append(cause)
        try:
            yield
        finally:
            self._causes.pop()

    def fill(self, values: Mapping[str, Any], cause: str = "") -> dict[str, Any]:
        """The values with numbers in place of handles, and None for what is lost.

        Args:
            values: what may have handles in it.
            cause: what needs them, where no block around the call says so.
        """
        given = dict(values)
        handles = [value for value in given.values() if isinstance(value, Deferred)]
        if not handles:
            return given
        with self.counted(sum(not settled(handle) for handle in handles), cause):
            return fill(given, wait=True)[0]

    @contextlib.contextmanager
    def counted(self, num_values: int, cause: str = "") -> Iterator[None]:
        """Notes the time of a with block as a wait for so many values; where there are none, not.

        Only the training thread's waits are noted.
        """
        started = time.perf_counter()
        yield
        if num_values and self._account is not None and threading.get_ident() == self._thread_id:
            cause = self._causes[-1] if self._causes else cause
            self._account.waited(cause, time.perf_counter() - started, values=num_values)


class HistoryRow(PendingRow):
    """A row of the history with values on their way from a device."""

    __slots__ = ("_handles", "_waits")

    def __init__(self, values: Mapping[str, Any], waits: Waits) -> None:
        super().__init__(values)
        self._waits = waits
        self._handles = [value for value in values.values() if isinstance(value, Deferred)]

    @property
    def known(self) -> bool:
        """Whether `settle` has nothing to wait for, as far as the host knows."""
        return all(handle.known for handle in self._handles)

    def settle(self) -> None:
        """Puts numbers in place of what is on its way, and waits for them; None for what is lost.

        From any thread, and as often as one likes.
        """
        if self._handles:
            self.update(self._waits.fill(self, "state.log_history"))
            self._handles = []
