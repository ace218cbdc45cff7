"""What lies beside the files of an uploaded checkpoint: which they are, and whether they are all.

`COMPLETE.json` is written last: a folder without it is half an upload. `UPLOADING.json` is written
first and removed at the end; by it an upload that was cut off knows what of the files that are
there it may keep.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from ...schemas.errors import DeliveryError

COMPLETE = "COMPLETE.json"
UPLOADING = "UPLOADING.json"
MARKS = frozenset({COMPLETE, UPLOADING})
FORMAT = 1


@dataclass(frozen=True)
class RemoteFile:
    """One file: its size in bytes and its SHA-256 as hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Marker:
    """What an upload consists of."""

    files: Mapping[str, RemoteFile]
    """By relative POSIX path."""
    saved_at: float
    """When the checkpoint was written, seconds since 1970."""
    run_id: str = ""
    """The run that wrote it; empty where that is not known."""
    best: bool = False
    """Whether it was the best checkpoint when it was written."""

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return sum(file.size for file in self.files.values())

    def to_json(self) -> bytes:
        """The content of the file."""
        return (json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n").encode()


def marker_from_json(text: bytes, address: str) -> Marker:
    """Reads a marker.

    Raises:
        DeliveryError: it is none, or of a newer format.
    """
    try:
        content: dict[str, Any] = json.loads(text)
        found = content["format"]
        files = {name: RemoteFile(**file) for name, file in content["files"].items()}
        marker = Marker(files, content["saved_at"], content["run_id"], content["best"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeliveryError(
            f"{address} is no marker of stepbus ({type(error).__name__}: {error}): delete it, or "
            "use another address."
        ) from error
    if found != FORMAT:
        raise DeliveryError(
            f"{address} has format {found}, and this version of stepbus reads format {FORMAT}: "
            "use the version of stepbus that wrote it."
        )
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise DeliveryError(f"{address} names {name!r}, which is outside of its folder.")
    return marker
