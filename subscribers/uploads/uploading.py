"""The uploads of one run to one destination: what is there, what is owed, what is left."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from ...bus.diagnostics import get_logger
from .contents import MANIFEST, run_of, step_of, whole_checkpoints
from .destination import Destination, Progress
from .interruption import LocalFileError

log = get_logger()

MOST_NAMED = 8


class Uploading:
    """Uploads checkpoints one after the other; used by one thread at a time.

    Args:
        destination: where they go.
        most_owed: how many of the run, the newest, are worth sending later; all where None.
        newest_alone: one is left out where a newer one of the run is on disk, whose turn comes.
    """

    def __init__(
        self, destination: Destination, *, most_owed: int | None, newest_alone: bool = False
    ) -> None:
        self.latest = ""
        """The address of the one that was uploaded last."""
        self._destination = destination
        self._most_owed = most_owed
        self._newest_alone = newest_alone
        self._run_id = ""
        self._output_dir: Path | None = None
        self._whole: set[Path] = set()
        self._tried: dict[Path, Progress] = {}

    @property
    def address(self) -> str:
        """Where they go, as it is shown."""
        return self._destination.address

    def begin(self, run_id: str, output_dir: Path) -> None:
        """Takes note of the run; what an earlier attempt left to be uploaded is owed."""
        self._run_id = run_id
        self._output_dir = output_dir

    def look_for_others(self) -> None:
        """Says once if another run has uploaded to the destination what will be replaced."""
        self._destination.look_for_others(self._run_id)

    def upload(self, folder: Path, *, best: bool = False) -> None:
        """Uploads a checkpoint as it is now, then deletes what is not to stay.

        Raises:
            LocalFileError: a file of it is gone or was altered.
            InterruptedUpload: the time is over.
            Exception: what the destination raised.
        """
        if self._newest_alone and self._is_outdated(folder):
            self._tried.pop(folder, None)
            return
        self._whole.discard(folder)
        progress = self._tried[folder] = Progress()
        told = self._destination.send(folder, progress, best=best)
        self._whole.add(folder)
        del self._tried[folder]
        if self._newest_alone:
            self._tried.clear()
        self.latest = self._destination.show(folder.name)
        if told:
            log.info(f"{folder.name} was uploaded to {self.address}: {told}")
        self._destination.delete_old(run_of(folder))

    def upload_owed(self, last_step: int) -> None:
        """Uploads what is on disk and not at the destination; of later steps events are to come.

        Raises:
            InterruptedUpload: the time is over.
            Exception: what the destination raised.
        """
        for folder in self._owed(last_step):
            try:
                self.upload(folder)
            except LocalFileError as error:
                # Nobody holds the lease of one that an earlier attempt wrote.
                log.warning(f"{folder.name} was not uploaded: {error}")

    def _own(self, last_step: float = math.inf) -> list[Path]:
        """The run's checkpoints on disk, as they were written."""
        if self._output_dir is None:
            return []
        own = [
            folder
            for folder in whole_checkpoints(self._output_dir)
            if (step_of(folder.name) or 0) <= last_step and run_of(folder) in ("", self._run_id)
        ]
        return sorted(own, key=_written_at)

    def _owed(self, last_step: float = math.inf) -> list[Path]:
        own = self._own(last_step)
        if self._most_owed is not None:
            own = own[-self._most_owed :]
        return [folder for folder in own if folder not in self._whole]

    def _is_outdated(self, folder: Path) -> bool:
        own = self._own()
        return folder in own[:-1] and _written_at(own[-1]) > _written_at(folder)

    def say_what_is_missing(self, name: str) -> None:
        """Names the checkpoints that are not there, on behalf of a subscriber."""
        owed = dict.fromkeys([*self._tried, *self._owed()])
        if not owed:
            return
        told = [self._describe(folder) for folder in list(owed)[-MOST_NAMED:]]
        before = f"{len(owed) - len(told)} others, " if len(owed) > len(told) else ""
        advice = self._destination.advice(next(reversed(owed)))
        log.error(
            f"{name}: not uploaded to {self.address}: {before}{', '.join(told)}. A run that goes "
            f"on in the same folder sends what is missing, and so does {advice}."
        )

    def _describe(self, folder: Path) -> str:
        if not folder.is_dir():
            return f"{folder.name} (no longer on disk)"
        progress = self._tried.get(folder)
        if progress is None or not progress.num_files:
            return folder.name
        return f"{folder.name} ({progress.num_there} of {progress.num_files} files are there)"


Say = Callable[[str, Exception, float], None]


def _written_at(folder: Path) -> float:
    try:
        return (folder / MANIFEST).stat().st_mtime
    except OSError:
        return 0.0


def say_again(what: str, error: Exception, delay_s: float) -> None:
    """Says that a request failed and is made again."""
    log.warning(
        f"{what} could not be uploaded ({type(error).__name__}: {error}); tried again in "
        f"{delay_s:g} s"
    )
