"""Training loops beside which a checkpoint is uploaded, over and over, from the first step on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any, Literal

from torch import nn

from stepbus import EventBus, TrainBegin, UploadCallback
from stepbus.engine.bench.equal_work import Work
from stepbus.engine.bench.loops import StepWatch, raw, training_run
from stepbus.subscribers.uploads.remote_folder import RemoteFolder

DRAIN_S = 1.0
NAME = "checkpoint-1"
FILE = "model.safetensors"
BLOCK_BYTES = 1 << 20


class Endless(UploadCallback):
    """Uploads one checkpoint, deletes it there, and begins anew, until it is told to end.

    Args:
        address: where to.
        folder: the checkpoint.
        count: a file that gets a byte for each upload.
        max_mb_per_s: as `UploadCallback`.
    """

    def __init__(
        self, address: str, *, folder: str, count: str, max_mb_per_s: float | None = None
    ) -> None:
        super().__init__(address, max_mb_per_s=max_mb_per_s)
        self._folder = folder
        self._count = count
        self._limit = max_mb_per_s

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return {
            "address": self.address,
            "folder": self._folder,
            "count": self._count,
            "max_mb_per_s": self._limit,
        }

    def on_train_begin(self, event: TrainBegin) -> None:
        """Uploads until the end."""
        uploading, remote = self._opened(), RemoteFolder(self.address)

        def again_and_again() -> None:
            while True:
                uploading.upload(Path(self._folder))
                _count_one(self._count)
                remote.delete_folder(NAME)

        self._work(again_and_again)


def uploading(
    work: Work,
    watch: StepWatch,
    *,
    mb: int,
    where: Literal["process", "thread"],
    max_mb_per_s: float | None = None,
) -> nn.Module:
    """A run whose subscriber uploads a checkpoint of `mb` megabytes to a folder all the time."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = _checkpoint(Path(place), mb)
        count = Path(place) / "count"
        endless = Endless(
            (Path(place) / "remote").as_uri(),
            folder=str(folder),
            count=str(count),
            max_mb_per_s=max_mb_per_s,
        )

        def subscribe(bus: EventBus) -> None:
            bus.subscribe(endless, delivery=where, required=True)

        try:
            return training_run(
                work, watch, arguments={"drain_timeout_s": DRAIN_S}, subscribe=subscribe
            )
        finally:
            watch.facts["uploaded_mb"] = mb * _counted(count)


def copying(work: Work, watch: StepWatch, *, mb: int) -> nn.Module:
    """The loop by hand, and a thread that copies the checkpoint all the time, as people write it:
    no sum, no marker."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder, remote = _checkpoint(Path(place), mb), Path(place) / "remote"
        count, over = Path(place) / "count", threading.Event()

        def copy() -> None:
            while not over.is_set():
                shutil.copytree(folder, remote)
                _count_one(str(count))
                shutil.rmtree(remote)

        thread = threading.Thread(target=copy, daemon=True)
        thread.start()
        try:
            return raw(work, watch)
        finally:
            over.set()
            thread.join()
            watch.facts["uploaded_mb"] = mb * _counted(count)


def _checkpoint(place: Path, mb: int) -> Path:
    """One file that no compression makes smaller, and the manifest with its sum."""
    folder = place / NAME
    folder.mkdir()
    total = hashlib.sha256()
    with (folder / FILE).open("wb") as file:
        for _ in range(mb):
            block = os.urandom(BLOCK_BYTES)
            total.update(block)
            file.write(block)
    files = {FILE: {"size": mb * BLOCK_BYTES, "sha256": total.hexdigest()}}
    (folder / "manifest.json").write_text(json.dumps({"files": files}), encoding="utf-8")
    return folder


def _count_one(path: str) -> None:
    with open(path, "ab") as file:  # noqa: PTH123 - it is called in the sidecar, with a text
        file.write(b".")


def _counted(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
