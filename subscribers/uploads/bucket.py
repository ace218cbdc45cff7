"""An address of fsspec as a destination: a folder for each checkpoint, its marker written last."""

from __future__ import annotations

from pathlib import Path

from ...bus.diagnostics import get_logger
from .bandwidth import BYTES_PER_MB
from .contents import contents_of
from .destination import Progress
from .interruption import Interruption
from .keeping import delete_old, whole_uploads
from .remote_folder import RemoteFolder
from .transfer import Transfer

log = get_logger()


class Bucket:
    """A `Destination`.

    Args:
        remote: the folder that checkpoints go to.
        transfer: sends them.
        interruption: ends it.
        what: "all" or "model".
        keep: how many of a run stay there; all where None.
    """

    def __init__(
        self,
        remote: RemoteFolder,
        transfer: Transfer,
        interruption: Interruption,
        what: str,
        keep: int | None,
    ) -> None:
        self._remote = remote
        self._transfer = transfer
        self._interruption = interruption
        self._what = what
        self._keep = keep

    @property
    def address(self) -> str:
        """As it is shown."""
        return self._remote.address

    def show(self, name: str) -> str:
        """The address of a checkpoint."""
        return self._remote.show(name)

    def look_for_others(self, run_id: str) -> None:
        """Says once if another run has uploaded to the address."""
        others = {marker.run_id for marker in whole_uploads(self._remote).values()}
        others -= {run_id, ""}
        if others:
            log.warning(
                f"{self.address} holds checkpoints of another run ({', '.join(others)}), of which "
                "those of the same steps will be replaced: give each run an address of its own."
            )

    def send(self, folder: Path, progress: Progress, *, best: bool) -> str:
        """Sends what is missing, then the marker."""
        wanted = contents_of(folder, self._what, self._interruption, best=best)
        sent = self._transfer.send(folder, wanted, progress)
        if sent.was_there:
            return ""
        megabytes = sent.num_bytes / BYTES_PER_MB
        return f"{sent.num_files} of {len(wanted.files)} files, {megabytes:.1f} MB"

    def delete_old(self, run_id: str) -> None:
        """Deletes a run's checkpoints until so many are left."""
        if self._keep is not None:
            delete_old(self._remote, self._keep, run_id)

    def advice(self, folder: Path) -> str:
        """The function that does it."""
        return f"upload_checkpoint({str(folder)!r}, {self.address!r})"
