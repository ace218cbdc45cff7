"""What keeps a checkpoint from being rotated away while somebody reads it."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator


class Lease:
    """Held by those who read a folder; rotation leaves it alone until nobody does."""

    def __init__(self) -> None:
        self._holders: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def holders(self) -> tuple[str, ...]:
        """Who reads the folder now."""
        with self._lock:
            return tuple(sorted(+self._holders))

    def acquire(self, holder: str) -> None:
        """Keeps the folder until `release`; may be called several times."""
        with self._lock:
            self._holders[holder] += 1

    def release(self, holder: str) -> None:
        """Ends one `acquire` of that holder."""
        with self._lock:
            if self._holders[holder] > 0:
                self._holders[holder] -= 1

    @contextlib.contextmanager
    def hold(self, holder: str) -> Iterator[None]:
        """Keeps the folder for the length of a with block."""
        self.acquire(holder)
        try:
            yield
        finally:
            self.release(holder)
