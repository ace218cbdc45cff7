"""The uploads of one run to one address: what is there, what is owed, what is left at the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from ...bus.diagnostics import get_logger
from .bandwidth import BYTES_PER_MB
from .contents import contents_of, run_of, step_of, whole_checkpoints
from .interruption import Interruption, LocalFileError
from .keeping import delete_old, whole_uploads
from .remote_folder import RemoteFolder
from .transfer import Progress, Transfer

log = get_logger()

MOST_NAMED = 8


class Uploading:
    """Uploads checkpoints one after the other; used by one thread at a time.

    Args:
        remote: the folder that they go to.
        transfer: sends them.
        interruption: ends it.
        what: "all" or "model".
        keep: how many of the run stay there; all where None.
    """

    def __init__(
        self,
        remote: RemoteFolder,
        transfer: Transfer,
        interruption: Interruption,
        what: str,
        keep: int | None,
    ) -> None:
        self.latest = ""
        """The address of the one that was uploaded last."""
        self._remote = remote
        self._transfer = transfer
        self._interruption = interruption
        self._what = what
        self._keep = keep
        self._run_id = ""
        self._output_dir: Path | None = None
        self._whole: set[Path] = set()
        self._tried: dict[Path, Progress] = {}

    def begin(self, run_id: str, output_dir: Path) -> None:
        """Takes note of the run; what an earlier attempt left to be uploaded is owed."""
        self._run_id = run_id
        self._output_dir = output_dir

    def look_for_others(self) -> None:
        """Says once if another run has uploaded to the address."""
        others = {marker.run_id for marker in whole_uploads(self._remote).values()}
        others -= {self._run_id, ""}
        if others:
            log.warning(
                f"{self._remote.address} holds checkpoints of another run ({', '.join(others)}), "
                "of which those of the same steps will be replaced: give each run an address of "
                "its own."
            )

    def upload(self, folder: Path, *, best: bool = False) -> None:
        """Uploads a checkpoint as it is now, then deletes what is not to stay.

        Raises:
            LocalFileError: a file of it is gone or was altered.
            InterruptedUpload: the time is over.
            Exception: what the address raised.
        """
        self._whole.discard(folder)
        progress = self._tried[folder] = Progress()
        wanted = contents_of(folder, self._what, self._interruption, best=best)
        sent = self._transfer.send(folder, wanted, progress)
        self._whole.add(folder)
        del self._tried[folder]
        self.latest = self._remote.show(folder.name)
        if not sent.was_there:
            log.info(
                f"{folder.name} was uploaded to {self._remote.address}: {sent.num_files} of "
                f"{len(wanted.files)} files, {sent.num_bytes / BYTES_PER_MB:.1f} MB"
            )
        if self._keep is not None:
            delete_old(self._remote, self._keep, wanted.run_id)

    def upload_owed(self, last_step: int) -> None:
        """Uploads what is on disk and not at the address; of later steps events are to come.

        Raises:
            InterruptedUpload: the time is over.
            Exception: what the address raised.
        """
        for folder in self._owed(last_step):
            try:
                self.upload(folder)
            except LocalFileError as error:
                # Nobody holds the lease of one that an earlier attempt wrote.
                log.warning(f"{folder.name} was not uploaded: {error}")

    def _owed(self, last_step: float = math.inf) -> list[Path]:
        if self._output_dir is None:
            return []
        own = [
            folder
            for folder in whole_checkpoints(self._output_dir)
            if (step_of(folder.name) or 0) <= last_step and run_of(folder) in ("", self._run_id)
        ]
        if self._keep is not None:
            own = own[-self._keep :]
        return [folder for folder in own if folder not in self._whole]

    def say_what_is_missing(self, name: str) -> None:
        """Names the checkpoints that are not at the address, on behalf of a subscriber."""
        owed = dict.fromkeys([*self._tried, *self._owed()])
        if not owed:
            return
        told = [self._describe(folder) for folder in list(owed)[-MOST_NAMED:]]
        before = f"{len(owed) - len(told)} others, " if len(owed) > len(told) else ""
        last = next(reversed(owed))
        log.error(
            f"{name}: not uploaded to {self._remote.address}: {before}{', '.join(told)}. A run "
            "that goes on in the same folder sends what is missing, and so does "
            f"upload_checkpoint({str(last)!r}, {self._remote.address!r})."
        )

    def _describe(self, folder: Path) -> str:
        if not folder.is_dir():
            return f"{folder.name} (no longer on disk)"
        progress = self._tried.get(folder)
        if progress is None or not progress.num_files:
            return folder.name
        return f"{folder.name} ({progress.num_there} of {progress.num_files} files are there)"


Say = Callable[[str, Exception, float], None]


def say_again(what: str, error: Exception, delay_s: float) -> None:
    """Says that a request failed and is made again."""
    log.warning(
        f"{what} could not be uploaded ({type(error).__name__}: {error}); tried again in "
        f"{delay_s:g} s"
    )
