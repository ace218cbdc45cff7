"""Sends one checkpoint to an address, as far as it is not there, and marks it as whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from ...schemas.errors import DeliveryError
from .bandwidth import Bandwidth
from .destination import Progress
from .interruption import Interruption, LocalFileError, Patience
from .marker import COMPLETE, MARKS, UPLOADING, Marker, RemoteFile
from .remote_folder import RemoteFolder

T = TypeVar("T")

LOOKS = 3
"""How often what has arrived is compared with what was sent."""


class Sent(NamedTuple):
    """What an upload took."""

    num_files: int
    num_bytes: int
    was_there: bool
    """Whether all of it was there before."""


class Transfer:
    """Uploads to one address. In this order, so that a cut at any moment does no harm:

    1. the mark of a whole upload goes, if another checkpoint of that name is there;
    2. what is there of it and is not to stay goes, then `UPLOADING.json` says what is to come;
    3. the files that are not there with their size and sum are sent;
    4. sizes are compared, `COMPLETE.json` is written, `UPLOADING.json` removed.

    Args:
        remote: the folder that checkpoints go to.
        bandwidth: what may be sent a second.
        interruption: ends it.
        tries: how often each request is made, in all.
        say: is told of a request that failed and is made again: its name, the error, a delay in s.
    """

    def __init__(
        self,
        remote: RemoteFolder,
        bandwidth: Bandwidth,
        interruption: Interruption,
        tries: int,
        say: Callable[[str, Exception, float], None],
    ) -> None:
        self._remote = remote
        self._bandwidth = bandwidth
        self._interruption = interruption
        self._tries = tries
        self._say = say

    def send(self, folder: Path, wanted: Marker, progress: Progress) -> Sent:
        """Uploads a checkpoint, which nobody may change meanwhile.

        Raises:
            LocalFileError: a file of it is gone or was altered.
            InterruptedUpload: the time is over.
            Exception: what the address raised when it was tried for the last time.
        """
        name = folder.name
        progress.num_files = len(wanted.files)
        sizes = self._patiently(name, self._remote.sizes, name)
        complete, begun = self._patiently(name, self._remote.marks, name)
        known = complete or begun
        missing = _missing(wanted, known, sizes)
        progress.num_there = len(wanted.files) - len(missing)
        same = known is not None and known.files == wanted.files
        if same and known is not None and known.best:
            wanted = replace(wanted, best=True)
        if complete is not None and same and not missing:
            if wanted.best and not complete.best:
                self._mark(name, wanted)
            self._patiently(name, self._remote.delete, name, UPLOADING)
            return Sent(0, 0, was_there=True)
        self._prepare(name, wanted, missing, sizes)
        num_sent, num_bytes = self._send_missing(folder, wanted, missing, progress)
        self._mark(name, wanted)
        self._patiently(name, self._remote.delete, name, UPLOADING)
        return Sent(num_sent, num_bytes, was_there=False)

    def _prepare(
        self, name: str, wanted: Marker, missing: Mapping[str, RemoteFile], sizes: dict[str, int]
    ) -> None:
        remote = self._remote
        if COMPLETE in sizes:
            self._patiently(name, remote.delete, name, COMPLETE)
        for file in sorted(sizes.keys() - MARKS):
            if file in missing or file not in wanted.files:
                self._patiently(f"{name}/{file}", remote.delete, name, file)
        self._patiently(name, remote.write, wanted.to_json(), name, UPLOADING)

    def _send_missing(
        self, folder: Path, wanted: Marker, missing: Mapping[str, RemoteFile], progress: Progress
    ) -> tuple[int, int]:
        name = folder.name
        num_sent = num_bytes = 0
        for _ in range(LOOKS):
            for file, expected in missing.items():
                self._send_file(folder, file, expected)
                num_sent += 1
                num_bytes += expected.size
                progress.num_there += 1
            sizes = self._patiently(name, self._remote.sizes, name)
            missing = _missing(wanted, wanted, sizes)
            progress.num_there = len(wanted.files) - len(missing)
            if not missing:
                return num_sent, num_bytes
        file = next(iter(missing))
        raise DeliveryError(
            f"{self._remote.show(name, file)} has {sizes.get(file, 0)} bytes after it was sent "
            f"{LOOKS} times, instead of {missing[file].size}."
        )

    def _send_file(self, folder: Path, file: str, expected: RemoteFile) -> None:
        name = folder.name

        def send() -> None:
            self._remote.send(
                folder / file, expected, self._bandwidth, self._interruption, name, file
            )

        try:
            self._patiently(f"{name}/{file}", send)
        except LocalFileError:
            self._remote.delete(name, file)
            raise

    def _mark(self, name: str, wanted: Marker) -> None:
        self._patiently(name, self._remote.write, wanted.to_json(), name, COMPLETE)

    def _patiently(self, what: str, function: Callable[..., T], *arguments: object) -> T:
        patience = Patience(
            self._tries,
            self._interruption,
            lambda error, delay_s: self._say(what, error, delay_s),
        )
        return patience.call(function, *arguments)


def _missing(
    wanted: Marker, known: Marker | None, sizes: Mapping[str, int]
) -> dict[str, RemoteFile]:
    """The files that are not there with their size, or whose sum is not known to be theirs."""
    recorded = known.files if known is not None else {}
    return {
        file: expected
        for file, expected in wanted.files.items()
        if sizes.get(file) != expected.size or recorded.get(file) != expected
    }
