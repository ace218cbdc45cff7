"""Uploads the checkpoints of a run to a bucket, or to wherever else fsspec reaches."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...bus.checks import check_count
from ...bus.subscriber import Subscriber
from ...schemas import RunFailed, Save, TrainBegin, TrainEnd
from ...schemas.errors import ArgumentError, DeliveryError, nearest
from .bandwidth import Bandwidth
from .contents import WHATS
from .interruption import InterruptedUpload, Interruption, InThread
from .remote_folder import RemoteFolder, checked_address, shown
from .transfer import Transfer
from .uploading import Uploading, say_again

TRIES = 8
ENDS_WITHIN_S = 0.1
"""How long what is told to end may take before its thread is left behind."""


class UploadCallback(Subscriber):
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

    prefers_process: ClassVar[bool] = True
    quarantine_after: ClassVar[int] = 1_000_000  # A server that is away for hours comes back.
    reports: ClassVar[bool] = False

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
        if max_mb_per_s is not None and not max_mb_per_s > 0:
            raise ArgumentError(f"max_mb_per_s={max_mb_per_s!r}: give a number above 0, or None.")
        check_count("keep", keep, 1)
        check_count("tries", tries, 1)
        self.address = checked_address(address)
        self.latest = ""
        """The address of the checkpoint that was uploaded last; empty while none was."""
        self._options = dict(storage_options or {})
        self._what = what
        self._keep = keep
        self._max_mb_per_s = max_mb_per_s
        self._tries = tries
        self._interruption = Interruption()
        self._uploading: Uploading | None = None

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
        if self._uploading is not None:
            self.latest = self._uploading.latest
        url = shown(self.address)
        return {"url": url, "latest": self.latest} if self.latest else {"url": url}

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
        self._uploading = Uploading(remote, transfer, interruption, self._what, self._keep)

    def hurry(self) -> None:
        """Ends the upload that is being made."""
        self._interruption.set()

    def on_train_begin(self, event: TrainBegin) -> None:
        """Uploads what an earlier attempt of the run left to be uploaded."""
        uploading = self._opened()
        uploading.begin(event.run_id, Path(event.output_dir))

        def catch_up() -> None:
            if not event.again:
                uploading.look_for_others()
            uploading.upload_owed(event.step)

        self._work(catch_up)

    def on_save(self, event: Save) -> None:
        """Uploads the checkpoint, then those that could not be uploaded before."""
        uploading = self._opened()

        def upload() -> None:
            uploading.upload(Path(event.path), best=event.best)
            uploading.upload_owed(event.step)

        self._work(upload)

    def on_train_end(self, event: TrainEnd) -> None:
        """Tries what could not be uploaded before."""
        self._upload_owed(event.step)

    def on_run_failed(self, event: RunFailed) -> None:
        """Tries what could not be uploaded before."""
        self._upload_owed(event.step)

    def close(self) -> None:
        """Names what was not uploaded."""
        uploading, self._uploading = self._uploading, None
        if uploading is not None:
            uploading.say_what_is_missing(type(self).__name__)

    def _upload_owed(self, last_step: int) -> None:
        uploading = self._opened()
        self._work(lambda: uploading.upload_owed(last_step))

    def _opened(self) -> Uploading:
        assert self._uploading is not None, "open() comes first"
        return self._uploading

    def _work(self, job: Callable[[], None]) -> None:
        """Does it in a thread that may be left behind, so that a server that does not answer cannot
        keep this one from saying what was left."""
        work = InThread(job, "stepbus-upload")
        if work.wait(self._interruption, ENDS_WITHIN_S):
            try:
                work.result()
                return
            except InterruptedUpload:
                pass
        raise DeliveryError(f"The time for uploads to {shown(self.address)} is over.")
