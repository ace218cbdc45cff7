"""What those share who send a run's checkpoints elsewhere: one after the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from ...bus.subscriber import Subscriber
from ...schemas import RunFailed, Save, TrainBegin, TrainEnd
from ...schemas.errors import DeliveryError
from .interruption import InterruptedUpload, Interruption, InThread
from .uploading import Uploading

ENDS_WITHIN_S = 0.1
"""How long what is told to end may take before its thread is left behind."""


class CheckpointUploads(Subscriber):
    """Has checkpoints uploaded by the `Uploading` that its `open()` makes.

    In the sidecar, within the handler of the `save` event, so that rotation waits. A checkpoint
    that fails is tried again after the next one, at the end, and by the next attempt of the run.
    """

    prefers_process: ClassVar[bool] = True
    quarantine_after: ClassVar[int] = 1_000_000  # A server that is away for hours comes back.
    reports: ClassVar[bool] = False
    only_trains: ClassVar[bool] = True
    """There is nothing to upload outside of a training: it need not be connected."""

    def __init__(self) -> None:
        self.latest = ""
        """The address of the checkpoint that was uploaded last; empty while none was."""
        self._interruption = Interruption()
        self._uploading: Uploading | None = None

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

    def _latest(self) -> str:
        if self._uploading is not None:
            self.latest = self._uploading.latest
        return self.latest

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
        raise DeliveryError(f"The time for uploads to {self._opened().address} is over.")
