"""Logs to TensorBoard, in event files or through a writer of the program's own."""

from __future__ import annotations

import inspect
import json
import os
import socket
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from ..bus.diagnostics import get_logger
from ..bus.shapes import both_shapes
from ..schemas import Artifact, Event, Histogram, InitEnd, Log, RunFailed, TrainBegin, TrainEnd
from .reporter import Tracker, tracker_key
from .tensorboard_artifacts import markdown_of, write_image
from .tensorboard_file import EventFile

log = get_logger()

MAX_EARLY = 1_000
"""Logs kept until a run begins and says where they belong."""
RUN_MARK = ".stepbus_run"
"""File in a folder of event files with the id of the run that they belong to."""


class TensorBoardCallback(Tracker):
    """Writes numbers as scalars, strings as text, histograms and images, at their event's step.

    Of a table it writes the first rows, as text; files it takes none, which it says once.
    Names are `train/loss`, `eval/loss`, `test/loss`. NaN and infinities are written as such. The
    folder is `logging_dir`, else that of the run's arguments, else the environment's
    TENSORBOARD_LOGGING_DIR, else `<output_dir>/runs/<date>_<host>`; all attempts of a run share it,
    and TensorBoard leaves out the steps that a resumed run takes again. The file is flushed every
    few seconds and at the end. Only the first process writes.

    Args:
        tb_writer: a `SummaryWriter` to write with, which stays the program's own: it is flushed,
            never closed. A path stands for `logging_dir`.
        logging_dir: the folder of the event files.

    Raises:
        DeliveryError: in `open()`: tensorboard is not installed.
        OSError: the folder cannot be written.
    """

    prefers_process: ClassVar[bool] = True
    tracker_name: ClassVar[str] = "tensorboard"
    modules: ClassVar[tuple[str, ...]] = ("tensorboard", "tensorboardX", "torch.utils.tensorboard")
    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "demo"

    def __init__(
        self,
        tb_writer: Any = None,
        *,
        logging_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if isinstance(tb_writer, str | os.PathLike):
            tb_writer, logging_dir = None, tb_writer
        self.tb_writer = tb_writer
        """What it writes with, with the methods of a `SummaryWriter` for numbers and text; None
        until a run has begun."""
        self.logging_dir = Path(logging_dir) if logging_dir is not None else None
        """Where the event files are; known once a run has begun."""
        self._fixed = logging_dir is not None
        self._given = tb_writer is not None
        self._takes_no: set[str] = set()
        self._early: deque[Log] = deque(maxlen=MAX_EARLY)
        self._place: InitEnd | None = None

    def made_with(self) -> dict[str, Any] | None:
        """Its arguments; None with a writer of the program's own, which stays in its process."""
        if self._given:
            return None
        return {"logging_dir": str(self.logging_dir) if self._fixed else None}

    def secure(self) -> None:
        """Has tensorboard's own thread write what it was given."""
        writer = self.tb_writer
        if writer is not None:
            writer.flush()

    def whereabouts(self) -> dict[str, str]:
        """The folder of its event files."""
        return {"folder": str(self.logging_dir)} if self.logging_dir is not None else {}

    def learn_whereabouts(self, found: Mapping[str, str]) -> None:
        """Takes the folder."""
        if "folder" in found:
            self.logging_dir = Path(found["folder"])

    def open(self) -> None:
        """Imports tensorboard."""
        if self._given:
            return
        try:
            import tensorboard.compat.proto.event_pb2
            import tensorboard.summary.writer.event_file_writer  # noqa: F401
        except ImportError as error:
            raise self.not_installed(error) from error

    @both_shapes
    def on_init_end(self, event: InitEnd) -> None:
        """Notes where the run is, for logs of evaluations without a training."""
        self._place = event if event.rank == 0 and event.output_dir else None

    @both_shapes
    def on_train_begin(self, event: TrainBegin) -> None:
        """Opens the files of the run and writes its arguments."""
        if event.rank != 0:
            return
        if not self._given:
            self._open_file(event, event.arguments.get("logging_dir"))
            if not event.again and (event.attempt > 1 or event.resumed_from is not None):
                # Readers then leave out what an earlier attempt wrote beyond this step.
                self.tb_writer.start_session(event.step + 1, event.time)
        if event.arguments and not event.again:
            text = json.dumps(dict(event.arguments), indent=2, default=str)
            indented = "".join(f"    {line}\n" for line in text.splitlines())
            self._write({"args": indented}, event.step, event.time)
        while self._early:
            self._log(self._early.popleft())

    @both_shapes
    def on_log(self, event: Log) -> None:
        """Writes the values."""
        if self._opened_for(event):
            self._log(event)
        elif event.rank == 0:
            self._early.append(event)

    @both_shapes
    def on_histogram(self, event: Histogram) -> None:
        """Writes a histogram that has finite values, under its tag."""
        if not self._opened_for(event):
            return
        add = getattr(self.tb_writer, "add_histogram_raw", None)
        if add is None or not event.counts:
            return
        timed = "walltime" in inspect.signature(add).parameters
        add(
            event.tag,
            min=event.min,
            max=event.max,
            num=sum(event.counts),
            sum=event.sum,
            sum_squares=event.sum_of_squares,
            bucket_limits=list(event.edges[1:]),
            bucket_counts=list(event.counts),
            global_step=event.step,
            **({"walltime": event.time} if timed else {}),
        )

    @both_shapes
    def on_artifact(self, event: Artifact) -> None:
        """Writes a text, an image, or the first rows of a table."""
        if not self._opened_for(event):
            return
        if event.gone:
            log.warning(f"TensorBoardCallback: {event.gone}")
            return
        wrote = False
        if event.kind == "image":
            wrote = write_image(self.tb_writer, event)
        elif event.kind != "file":
            text = event.read_text() if event.kind == "text" else markdown_of(event)
            self._write({event.tag: text}, event.step, event.time)
            wrote = True
        if not wrote and event.kind not in self._takes_no:
            self._takes_no.add(event.kind)
            log.warning(f"TensorBoardCallback takes no {event.kind}s: they are left out.")

    @both_shapes
    def on_train_end(self, event: TrainEnd) -> None:
        """Puts on disk what was written; logs of later evaluations still come."""
        self._flush()

    @both_shapes
    def on_run_failed(self, event: RunFailed) -> None:
        """Puts on disk what was written."""
        self._flush()

    def close(self) -> None:
        """Closes the files."""
        self._flush()
        self._close_file()
        if self._early:
            log.warning(
                f"TensorBoardCallback: {len(self._early)} logs came before any run had begun and "
                "were not written; give it a logging_dir and a run that begins."
            )

    def _opened_for(self, event: Event) -> bool:
        """Whether there is something to write an event to, opened where that is known."""
        if event.rank != 0:
            return False
        if self.tb_writer is None and self._place is not None:
            self._open_file(self._place, self._place.logging_dir)
        return self.tb_writer is not None

    def _open_file(self, event: TrainBegin | InitEnd, logging_dir: object) -> None:
        self._close_file()
        if not self._fixed:
            chosen = logging_dir or os.environ.get("TENSORBOARD_LOGGING_DIR")
            self.logging_dir = Path(str(chosen)).expanduser() if chosen else _run_folder(event)
        assert self.logging_dir is not None
        self.tb_writer = EventFile(self.logging_dir)

    def _close_file(self) -> None:
        if not self._given and self.tb_writer is not None:
            writer, self.tb_writer = self.tb_writer, None
            writer.close()

    def _log(self, event: Log) -> None:
        values = {tracker_key(k): v for k, v in event.logs.items() if v is not None}
        if values:
            self._write(values, event.step, event.time)

    def _write(self, values: dict[str, float | str], step: int, wall_time: float) -> None:
        if isinstance(self.tb_writer, EventFile):
            self.tb_writer.add_values(values, step, wall_time)
            return
        for tag, value in values.items():
            text = isinstance(value, str)
            add = self.tb_writer.add_text if text else self.tb_writer.add_scalar
            # Writers of other makers than torch may not know when a value was logged.
            timed = "walltime" in inspect.signature(add).parameters
            add(tag, value, step, **({"walltime": wall_time} if timed else {}))

    def _flush(self) -> None:
        if self.tb_writer is not None:
            self.tb_writer.flush()


def _run_folder(event: TrainBegin | InitEnd) -> Path:
    """The folder that an earlier attempt or session of the run made, else a new one."""
    runs = Path(event.output_dir) / "runs"
    for mark in sorted(runs.glob(f"*/{RUN_MARK}"), reverse=True):
        if mark.read_text(encoding="utf-8").strip() == event.run_id:
            return mark.parent
    date = datetime.fromtimestamp(event.time).astimezone()
    name = f"{date:%b%d_%H-%M-%S}_{socket.gethostname()}"
    folder, copy = runs / name, 1
    while folder.exists():
        copy += 1
        folder = runs / f"{name}.{copy}"
    folder.mkdir(parents=True)
    (folder / RUN_MARK).write_text(f"{event.run_id}\n", encoding="utf-8")
    return folder
