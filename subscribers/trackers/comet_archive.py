"""Comet's offline files while a run goes on: whether all is written, and what a dead one left."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

from ...schemas.errors import DeliveryError

MESSAGES = "messages.json"
EMPTY_ZIP_BYTES = 22
PATIENCE_S = 30.0
"""For Comet's own thread to write what it was given."""
MESSAGE_ID = re.compile(rb'"message_id": ?(\d+)')
TAIL_BYTES = 1 << 20
"""More than a message has."""


class Files:
    """Where Comet keeps what it was given until the experiment ends: a folder among the temporary
    ones, of which a note is made beside the run. Only what is in there outlives the process.

    Args:
        experiment: one of Comet's.
        note: the file of the note.
    """

    def __init__(self, experiment: Any, note: Path) -> None:
        self._streamer = experiment.streamer
        self._note = note
        folder = getattr(self._streamer, "temp_dir", None) or experiment.tmpdir
        self._messages = Path(folder) / MESSAGES
        with contextlib.suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(str(folder), encoding="utf-8")

    def wait_until_written(self) -> None:
        """Waits for Comet's own thread.

        Raises:
            DeliveryError: it did not write.
        """
        until = time.monotonic() + PATIENCE_S
        while not self._is_written():
            if time.monotonic() > until or not self._streamer.is_alive():
                raise DeliveryError(
                    f"Comet's thread did not write to {self._messages} for {PATIENCE_S:.0f} s: is "
                    "the disk full?"
                )
            time.sleep(0.005)

    def done(self) -> None:
        """Says that the experiment has ended well."""
        with contextlib.suppress(OSError):
            self._note.unlink()

    def _is_written(self) -> bool:
        given = getattr(self._streamer, "_counter", 0)
        if not self._streamer.messages.empty():
            return False
        try:
            with self._messages.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
                numbers = MESSAGE_ID.findall(file.read().rpartition(b"\n")[0])
        except OSError:
            return False
        return max(map(int, numbers), default=0) >= given


def rescue(note: Path, folder: Path, key: str, project: str | None, workspace: str | None) -> str:
    """Makes an archive of what an experiment left that did not end, as `comet upload` takes it.

    Args:
        note: what `Files` has noted of it.
        folder: where archives go.
        key: of the experiment.
        project: its project.
        workspace: its workspace.

    Returns:
        The path of the archive; empty where nothing was left.
    """
    try:
        left = Path(note.read_text(encoding="utf-8").strip())
        began_s = note.stat().st_mtime
        messages = left / MESSAGES
        ended_s = messages.stat().st_mtime
    except (OSError, ValueError):
        return ""
    offline_utils: Any = importlib.import_module("comet_ml.offline_utils")
    # The last line may have been cut short.
    text = messages.read_bytes()
    messages.write_bytes(text[: text.rfind(b"\n") + 1])
    offline_utils.write_experiment_meta_file(
        tempdir=str(left),
        experiment_key=key,
        workspace=workspace,
        project_name=project,
        start_time=int(began_s * 1_000),
        stop_time=int(ended_s * 1_000),
        tags=[],
        resume_strategy="get_or_create",
        user_provided_experiment_key=True,
        comet_start_sourced=True,
    )
    archive = folder / f"{key}-left{int(ended_s * 1_000)}.zip"
    with zipfile.ZipFile(archive, "w", allowZip64=True) as target:
        for file in sorted(left.iterdir()):
            if file.is_file():
                target.write(file, file.name)
    for other in folder.glob(f"{key}*.zip"):
        # Comet made the dead one's own archive when it began, and would have filled it at the end.
        if other.stat().st_size == EMPTY_ZIP_BYTES:
            other.unlink()
    note.unlink(missing_ok=True)
    shutil.rmtree(left, ignore_errors=True)
    return str(archive)
