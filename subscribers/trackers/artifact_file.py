"""An artifact as a file, for trackers that take files."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ...schemas import Artifact

_SUFFIXES = {
    "text/plain": ".txt",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "application/json": ".json",
}


def file_name(event: Artifact) -> str:
    """A name for the file of an artifact: the last part of its tag, with the ending of its type."""
    last = event.tag.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^\w.-]+", "_", last).strip("._") or event.kind
    suffix = Path(event.path).suffix or _SUFFIXES.get(event.media_type, "")
    return name if name.endswith(suffix) else f"{name}{suffix}"


@contextlib.contextmanager
def file_of(event: Artifact) -> Iterator[Path]:
    """The file of an artifact; for one that the event holds, a file for the length of the block."""
    if event.path:
        yield Path(event.path)
        return
    with tempfile.TemporaryDirectory(prefix="stepbus-artifact-") as folder:
        file = Path(folder) / file_name(event)
        file.write_bytes(event.read())
        yield file
