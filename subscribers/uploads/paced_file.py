"""A file that is read no faster than it may be sent."""

from __future__ import annotations

import io
from pathlib import Path

from .bandwidth import Bandwidth
from .interruption import Interruption


class PacedFile(io.BufferedReader):
    """A file opened for reading; once `is_sent`, each block waits for its time.

    Args:
        path: of the file.
        bandwidth: what may be sent a second.
        interruption: ends the reading.
    """

    def __init__(self, path: Path, bandwidth: Bandwidth, interruption: Interruption) -> None:
        super().__init__(io.FileIO(path))
        self.is_sent = False
        self._bandwidth = bandwidth
        self._interruption = interruption

    def read(self, size: int | None = -1, /) -> bytes:
        """As a file's.

        Raises:
            InterruptedUpload: the time is over.
        """
        self._interruption.check()
        block = super().read(size)
        if self.is_sent:
            self._bandwidth.take(len(block))
        return block
