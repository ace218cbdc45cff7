"""Folders of temporary logs, and the removal of those that a killed process left behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = "stepbus-log-"
LOCK = "in-use"
SPARE_BYTES = 1 << 30
SPARE_SHARE = 20
"""What is left free of the disk: so many bytes, or so small a share of a small one."""


class Scratch:
    """A temporary folder that is known to be in use while this process lives.

    The mark is a lock on a file in it, which the system takes away with the process, however it
    ends; process ids would not do, since containers may share the folder and not the ids.
    """

    def __init__(self, spare_bytes: int | None = None) -> None:
        self._spare_bytes = spare_bytes
        self.folder: Path | None = None
        self.removed = False
        """Whether the folder was there and is not any more."""
        self._lock: int | None = None
        self._inert = False

    def make(self) -> Path:
        """The folder, made where it is not there.

        Raises:
            OSError: it cannot be made.
        """
        if self.folder is None:
            remove_left_behind()
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = _mark(folder)
            self.folder, self.removed = folder, False
        return self.folder

    def check_room(self, num_bytes: int) -> None:
        """Raises OSError where so much more would leave too little of the disk to others."""
        if self.folder is None:
            return
        disk = os.statvfs(self.folder)
        spare = self._spare_bytes
        if spare is None:
            spare = min(SPARE_BYTES, disk.f_blocks * disk.f_frsize // SPARE_SHARE)
        free = disk.f_bavail * disk.f_frsize
        if free - num_bytes < spare:
            raise OSError(
                errno.ENOSPC,
                f"{free / 1e9:.2f} GB are free, and {spare / 1e9:.2f} GB are left to checkpoints",
            )

    def remove(self) -> None:
        """Removes the folder with all that is in it."""
        folder, self.folder = self.folder, None
        if folder is None or self._inert:
            return
        self.removed = True
        shutil.rmtree(folder, ignore_errors=True)
        self._unlock()

    def make_inert(self) -> None:
        """In a forked child: the folder is the parent's."""
        self._inert = True
        self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def remove_left_behind() -> None:
    """Removes the folders of this user's processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid != os.getuid() or not (folder / LOCK).exists():
                continue
            lock = _locked(folder / LOCK)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)


def _mark(folder: Path) -> int | None:
    """Locks a file and only then gives it the name that `remove_left_behind` looks for."""
    aside = folder / f".{LOCK}"
    lock = _locked(aside)
    aside.rename(folder / LOCK)
    return lock


def _locked(path: Path) -> int | None:
    """The descriptor of a file, once its lock is held; None where another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
