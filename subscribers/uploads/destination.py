"""Where checkpoints are uploaded to: a bucket, a repository on the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass
class Progress:
    """How far the upload of a checkpoint is."""

    num_files: int = 0
    """Of the checkpoint; 0 until it is known."""
    num_there: int = 0
    """Of these, those that have arrived."""


class Destination(Protocol):
    """One place, which has a checkpoint whole or not at all."""

    @property
    def address(self) -> str:
        """As it is shown."""

    def show(self, name: str) -> str:
        """The address of a checkpoint that was uploaded there, by the name of its folder."""

    def look_for_others(self, run_id: str) -> None:
        """Warns of what other runs have uploaded there, where that is replaced."""

    def send(self, folder: Path, progress: Progress, *, best: bool) -> str:
        """Uploads a checkpoint as it is now.

        Returns:
            What was sent, in words; empty where all of it was there.

        Raises:
            LocalFileError: a file of it is gone or was altered.
            InterruptedUpload: the time is over.
            Exception: what the place raised.
        """

    def delete_old(self, run_id: str) -> None:
        """Deletes what of a run is not to stay, where `send` has not."""

    def advice(self, folder: Path) -> str:
        """What sends a checkpoint that is missing there, besides the next attempt of its run."""
