"""Uploads the checkpoints of a run to a bucket, or to wherever else fsspec reaches."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

from ...bus.checks import check_count
from ...schemas.errors import ArgumentError, nearest
from .bandwidth import Bandwidth, check_limit
from .bucket import Bucket
from .checkpoint_uploads import CheckpointUploads
from .contents import WHATS
from .interruption import Interruption
from .remote_folder import RemoteFolder, checked_address, shown
from .transfer import Transfer
from .uploading import Uploading, say_again

TRIES = 8


class UploadCallback(CheckpointUploads):
    """Uploads each checkpoint that the run saves, to `<address>/checkpoint-<step>`.

    In the sidecar, one checkpoint after the other, while rotation waits for those that are still to
    be read. A marker, `COMPLETE.json`, is written last: a folder without it is half an upload,
    which `latest_upload` does not see. A request that fails is made again after 0.5 s, 1 s, ... up
    to 30 s; a checkpoint that fails in all tries is an error of this subscriber, the run goes on,
    and it is tried again after the next one and at the end. A run that was killed in the middle of
    an upload and goes on completes it: what is there with its size and sum is not sent again. What
    was not uploaded when the time at the end is over is named.

    Args:
        address: where to, such as "s3://bucket/run", "file:///mnt/backup/run".
        storage_options: for fsspec: credentials, `endpoint_url` and so on.
        what: "all", or "model" without the states that a training resumes from.
        keep: how many checkpoints of the run stay at the address, besides the best one; all where
            None.
        max_mb_per_s: limit on what is sent, megabytes (a million bytes) a second.
        tries: how often each request is made, in all.

    Raises:
        ArgumentError: an argument that makes no sense.
        DeliveryError: in `open()`: the address cannot be written, or a package is missing.
    """

    def __init__(
        self,
        address: str | os.PathLike[str],
        *,
        storage_options: Mapping[str, Any] | None = None,
        what: Literal["all", "model"] = "all",
        keep: int | None = None,
        max_mb_per_s: float | None = None,
        tries: int = TRIES,
    ) -> None:
        if what not in WHATS:
            raise ArgumentError(f"what={what!r}: {nearest(str(what), WHATS)}")
        super().__init__()
        check_limit(max_mb_per_s)
        check_count("keep", keep, 1)
        check_count("tries", tries, 1)
        self.address = checked_address(address)
        self._options = dict(storage_options or {})
        self._what = what
        self._keep = keep
        self._max_mb_per_s = max_mb_per_s
        self._tries = tries

    def made_with(self) -> dict[str, Any]:
        """Its arguments."""
        return {
            "address": self.address,
            "storage_options": self._options,
            "what": self._what,
            "keep": self._keep,
            "max_mb_per_s": self._max_mb_per_s,
            "tries": self._tries,
        }

    def whereabouts(self) -> dict[str, str]:
        """The address, and that of the checkpoint that was uploaded last."""
        url, latest = shown(self.address), self._latest()
        return {"url": url, "latest": latest} if latest else {"url": url}

    def learn_whereabouts(self, found: Mapping[str, str]) -> None:
        """Takes the address of the checkpoint that was uploaded last."""
        self.latest = found.get("latest", self.latest)

    def open(self) -> None:
        """Connects; writes a small file and deletes it again."""
        interruption = self._interruption = Interruption()
        remote = RemoteFolder(self.address, self._options)
        remote.probe()
        bandwidth = Bandwidth(self._max_mb_per_s, interruption.wait)
        transfer = Transfer(remote, bandwidth, interruption, self._tries, say_again)
        bucket = Bucket(remote, transfer, interruption, self._what, self._keep)
        self._uploading = Uploading(bucket, most_owed=self._keep)
