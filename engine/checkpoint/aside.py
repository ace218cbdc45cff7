"""Folders set aside under a dot name while a checkpoint is written, replaced or deleted.

Their names say who made them: `.checkpoint-<step>.<purpose>-<pid>-<token>`. The token tells a
process from an earlier one with the same number, as in a container, where it is always 1.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Literal

Purpose = Literal["partial", "replaced", "deleted"]

_NAME = re.compile(r"\.(checkpoint-[0-9]+)\.(partial|replaced|deleted)-([0-9]+)-([0-9a-f]+)")
_TOKEN = secrets.token_hex(4)


def aside(checkpoint: Path, purpose: Purpose) -> Path:
    """The dot name under which this process sets a checkpoint folder aside."""
    name = f".{checkpoint.name}.{purpose}-{os.getpid()}-{_TOKEN}"
    return checkpoint.with_name(name)


def restore_replaced(output_dir: Path) -> None:
    """Puts back a checkpoint whose replacement was cut off between its two renames."""
    for path, checkpoint, purpose in _abandoned(output_dir):
        if purpose == "replaced" and not checkpoint.exists():
            with contextlib.suppress(OSError):
                path.rename(checkpoint)


def clear_abandoned(output_dir: Path) -> None:
    """Removes what processes that are gone have left half-written or half-deleted."""
    restore_replaced(output_dir)
    for path, _, _ in _abandoned(output_dir):
        discard(path)


def discard(path: Path) -> None:
    """Deletes a folder set aside; what cannot be deleted now stays under its dot name."""
    if path.is_symlink():
        with contextlib.suppress(OSError):
            path.unlink()
    elif path.exists():
        shutil.rmtree(path, ignore_errors=True)


def _abandoned(output_dir: Path) -> list[tuple[Path, Path, str]]:
    try:
        names = os.listdir(output_dir)
    except OSError:
        return []
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    return [
        (output_dir / match[0], output_dir / match[1], match[2])
        for match in matches
        if not _is_running(int(match[3]), match[4])
    ]


def _is_running(pid: int, token: str) -> bool:
    if pid == os.getpid():
        return token == _TOKEN
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
