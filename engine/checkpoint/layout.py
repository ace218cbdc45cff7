"""Where checkpoints lie in an output folder, what they are called, which of them are whole."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...schemas.errors import CheckpointError
from .aside import restore_replaced
from .manifest import verify

WEIGHTS = "model.safetensors"
VALUES = "state.json"
TENSORS = "state"

_NAME = re.compile(r"checkpoint-(0|[1-9][0-9]*)")


def checkpoint_folder(output_dir: str | os.PathLike[str], step: int) -> Path:
    """The folder `checkpoint-<step>` of an output folder, whether it exists or not."""
    return Path(output_dir) / f"checkpoint-{step}"


def checkpoint_step(folder: str | os.PathLike[str]) -> int | None:
    """The step in a checkpoint folder's name, or None when it is not such a name."""
    match = _NAME.fullmatch(Path(folder).name)
    return int(match[1]) if match else None


def list_checkpoints(output_dir: str | os.PathLike[str]) -> list[Path]:
    """The whole checkpoints of an output folder by step, the newest last.

    Whole means that every file of the manifest is there with its size; the sums are compared
    when a checkpoint is read. Folders that stepbus did not write, or did not finish, are left out.
    """
    root = Path(output_dir)
    restore_replaced(root)
    try:
        names = os.listdir(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [(step, root / name) for name in names if (step := checkpoint_step(name)) is not None]
    return [folder for _, folder in sorted(found) if is_whole(folder)]


def get_last_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """The whole checkpoint with the highest step, or None when there is none."""
    found = list_checkpoints(folder)
    return str(found[-1]) if found else None


def is_whole(folder: Path) -> bool:
    """Whether all files of a checkpoint are there with their sizes."""
    try:
        verify(folder, deep=False)
    except CheckpointError:
        return False
    return True
