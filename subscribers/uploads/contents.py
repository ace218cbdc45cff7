"""What of a checkpoint's folder is uploaded: its files, their sizes and sums."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from .interruption import Interruption, LocalFileError
from .marker import MARKS, Marker, RemoteFile

MANIFEST = "manifest.json"
RUN = "run.json"
STATES = ("state", "state.json", "manifest.json", "optimizer.pt", "scheduler.pt")
"""What `what="model"` leaves out: the states that a training resumes from, and the list of them."""
WHATS = ("all", "model")
_RNG = re.compile(r"rng_state(_\d+)?\.pth")
_NAME = re.compile(r"checkpoint-(0|[1-9][0-9]*)")


def step_of(name: str) -> int | None:
    """The step in the name of a checkpoint's folder; None where it is no such name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def whole_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints of an output folder by step; what was not finished has another name."""
    try:
        found = [path for path in output_dir.iterdir() if step_of(path.name) is not None]
    except OSError:
        return []
    return sorted(
        (path for path in found if (path / MANIFEST).is_file()),
        key=lambda path: step_of(path.name) or 0,
    )


def run_of(folder: Path) -> str:
    """The id of the run that wrote a checkpoint; empty where it does not say."""
    return str(_read(folder / RUN).get("run_id", ""))


def contents_of(
    folder: Path, what: str, interruption: Interruption, *, best: bool = False
) -> Marker:
    """The files of a checkpoint that are to be uploaded.

    Sums come from the checkpoint's own manifest, where it has one, else from reading the files.

    Raises:
        LocalFileError: a file or the folder is not there, or not any more.
        InterruptedUpload: the time is over.
    """
    known = _read(folder / MANIFEST).get("files", {})
    files: dict[str, RemoteFile] = {}
    saved_at = 0.0
    try:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            name = path.relative_to(folder).as_posix()
            if name in MARKS or (what == "model" and is_state(name)):
                continue
            status = path.stat()
            saved_at = max(saved_at, status.st_mtime)
            entry = known.get(name, {})
            if entry.get("size") == status.st_size:
                files[name] = RemoteFile(status.st_size, str(entry["sha256"]))
            else:
                files[name] = RemoteFile(status.st_size, _sum_of(path, interruption))
    except OSError as error:
        raise LocalFileError(f"{folder} cannot be read: {error}") from error
    if not files:
        raise LocalFileError(f"{folder} is empty, or gone")
    return Marker(files, saved_at, run_of(folder), best)


def is_state(name: str) -> bool:
    """Whether a file of a checkpoint belongs to what a training resumes from."""
    first = name.partition("/")[0]
    return first in STATES or bool(_RNG.fullmatch(name))


def _sum_of(path: Path, interruption: Interruption) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            interruption.check()
            total.update(block)
    return total.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
