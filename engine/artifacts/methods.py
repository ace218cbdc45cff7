"""`log_text`, `log_image`, `log_table` and `log_file`, for every front end to inherit."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from .draft import Draft, draft_of_file, draft_of_text
from .images import draft_of_image
from .tables import draft_of_table


class LogsArtifacts:
    """Logs what is no number, as one `artifact` event each, for every tracker that can show it.

    Within a step the event comes once the step has ended, with its number; outside of one (in an
    evaluation, before and after the training) it comes at once. What is given is checked first,
    whoever listens; where nobody does, nothing else is done. An event holds 64 KiB; what is larger
    is written to `<output_dir>/artifacts/` on the calling thread, a third of a millisecond a
    megabyte, and stays there. A disk that takes no more is reported, and the training goes on.
    """

    def log_text(self, tag: str, text: str) -> None:
        """Logs a text.

        Args:
            tag: what it is, `samples/first` for one.
            text: the text.

        Raises:
            ArgumentError: no text.
        """
        self._log_artifact(draft_of_text(tag, text))

    def log_image(self, tag: str, image: Any, *, copy: bool = False) -> None:
        """Logs an image: a file or bytes as they are, pixels as a PNG.

        Encoding 512 x 512 pixels of three colours takes 5 to 30 ms on the calling thread. A
        tensor on a device is copied to the host, which waits for the device: the ledger counts that
        wait under `log_image`.

        Args:
            tag: what it is, `samples/first` for one.
            image: the path of a PNG, JPEG or GIF; the bytes of one; an image of Pillow's; or an
                array or tensor of shape H x W (grey), H x W x C or C x H x W, where C is 1 (grey),
                3 (RGB) or 4 (RGBA); where either would do it is taken for H x W x C. Integers are
                0 to 255, floats 0 to 1. What lies beyond is cut off, which a warning says once a
                tag; NaN is black.
            copy: with a path, copies the file to `<output_dir>/artifacts/` first. Without it the
                file must stay as it is, since it is read later.

        Raises:
            ArgumentError: no such file, another format, another shape.
            StepbusError: an array, and Pillow is not installed; a tensor on a device, while a CUDA
                graph is captured.
        """
        self._log_artifact(draft_of_image(tag, image, copies=copy))

    def log_table(
        self, tag: str, rows: Iterable[Any] = (), *, columns: Iterable[str] | None = None
    ) -> None:
        """Logs a table.

        Args:
            tag: what it is, `samples` for one.
            rows: lists of as many cells as there are columns, or dicts by column, where what is
                missing is None. A cell is a number, a bool, text or None; numbers of numpy and of
                tensors on the host are read.
            columns: the names of the columns; by default those of the dicts.

        Raises:
            ArgumentError: no columns, a row of another length, a cell of another type, or one on a
                device.
        """
        self._log_artifact(draft_of_table(tag, columns, rows))

    def log_file(
        self, path: str | os.PathLike[str], tag: str | None = None, *, copy: bool = False
    ) -> None:
        """Logs a file: its path, size and time of change; trackers that keep files read it later.

        Args:
            path: the file.
            tag: what it is; the file's name by default.
            copy: copies it to `<output_dir>/artifacts/` first, for a file that is written to again.

        Raises:
            ArgumentError: no such file, or a folder.
        """
        self._log_artifact(draft_of_file(path, tag, copies=copy))

    @abstractmethod
    def _log_artifact(self, draft: Draft) -> None:
        """Hands on what has been checked."""
