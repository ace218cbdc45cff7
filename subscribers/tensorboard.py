"""Logs to TensorBoard, through tensorboard's own event writer."""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from ..bus.diagnostics import get_logger
from ..schemas import Log, RunFailed, TrainBegin, TrainEnd
from .reporter import Tracker, tracker_key

log = get_logger()

FLUSH_EVERY_S = 5.0
MAX_EARLY = 1_000
"""Logs kept until a run begins and says where they belong."""
RUN_MARK = ".stepbus_run"
"""File in a folder of event files with the id of the run that they belong to."""


class TensorBoardCallback(Tracker):
    """Writes logged numbers as scalars and logged strings as text, at the step of their event.

    Names are `train/loss`, `eval/loss`, `test/loss`. NaN and infinities are written as such. The
    folder is `logging_dir`, else the environment's TENSORBOARD_LOGGING_DIR, else
    `<output_dir>/runs/<date>_<host>`; all attempts of a run share it, and TensorBoard leaves out
    the steps that a resumed run takes again. The file is flushed every few seconds and at the end.
    Only the first process writes.

    Args:
        logging_dir: the folder of the event files.

    Raises:
        DeliveryError: in `open()`: tensorboard is not installed.
        OSError: the folder cannot be written.
    """

    tracker_name: ClassVar[str] = "tensorboard"
    package: ClassVar[str] = "tensorboard"
    extra: ClassVar[str] = "demo"

    def __init__(self, logging_dir: str | os.PathLike[str] | None = None) -> None:
        self.logging_dir = Path(logging_dir) if logging_dir is not None else None
        """Where the event files are; known once a run has begun."""
        self._fixed = logging_dir is not None
        self._writer: Any = None
        self._early: deque[Log] = deque(maxlen=MAX_EARLY)

    def open(self) -> None:
        """Imports tensorboard."""
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise self.not_installed(error) from error
        self._event = event_pb2
        self._summary = summary_pb2
        self._tensor = tensor_pb2
        self._types = types_pb2
        self._new_writer = EventFileWriter

    def on_train_begin(self, event: TrainBegin) -> None:
        """Opens the files of the run and writes its arguments."""
        if event.rank != 0:
            return
        self._close_writer()
        self._open_writer(event)
        if event.attempt > 1 or event.resumed_from is not None:
            # Readers then leave out what an earlier attempt wrote beyond this step.
            start = self._event.SessionLog(status=self._event.SessionLog.START)
            self._write(event.time, event.step + 1, session_log=start)
        if event.arguments:
            text = json.dumps(dict(event.arguments), indent=2, default=str)
            indented = "".join(f"    {line}\n" for line in text.splitlines())
            self._write_values(event.time, event.step, [self._text("args", indented)])
        while self._early:
            self._log(self._early.popleft())

    def on_log(self, event: Log) -> None:
        """Writes the values."""
        if event.rank != 0:
            return
        if self._writer is None:
            self._early.append(event)
        else:
            self._log(event)

    def on_train_end(self, event: TrainEnd) -> None:
        """Puts on disk what was written; logs of later evaluations still come."""
        self._flush()

    def on_run_failed(self, event: RunFailed) -> None:
        """Puts on disk what was written."""
        self._flush()

    def close(self) -> None:
        """Closes the files."""
        self._close_writer()
        if self._early:
            log.warning(
                f"TensorBoardCallback: {len(self._early)} logs came before any run had begun and "
                "were not written; give it a logging_dir and a run that begins."
            )

    def _open_writer(self, event: TrainBegin) -> None:
        if not self._fixed:
            variable = os.environ.get("TENSORBOARD_LOGGING_DIR")
            self.logging_dir = Path(variable) if variable else _run_folder(event)
        self._writer = self._new_writer(str(self.logging_dir), flush_secs=FLUSH_EVERY_S)

    def _log(self, event: Log) -> None:
        values = []
        for name, value in event.logs.items():
            if isinstance(value, str):
                values.append(self._text(tracker_key(name), value))
            elif value is not None:
                values.append(
                    self._summary.Summary.Value(tag=tracker_key(name), simple_value=float(value))
                )
        if values:
            self._write_values(event.time, event.step, values)

    def _text(self, tag: str, text: str) -> Any:
        plugin = self._summary.SummaryMetadata.PluginData(plugin_name="text")
        tensor = self._tensor.TensorProto(
            dtype=self._types.DT_STRING, string_val=[text.encode("utf-8", "backslashreplace")]
        )
        tensor.tensor_shape.dim.add(size=1)
        return self._summary.Summary.Value(
            tag=f"{tag}/text_summary",
            metadata=self._summary.SummaryMetadata(plugin_data=plugin),
            tensor=tensor,
        )

    def _write_values(self, wall_time: float, step: int, values: list[Any]) -> None:
        self._write(wall_time, step, summary=self._summary.Summary(value=values))

    def _write(self, wall_time: float, step: int, **content: Any) -> None:
        self._writer.add_event(self._event.Event(wall_time=wall_time, step=step, **content))

    def _flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def _run_folder(event: TrainBegin) -> Path:
    """The folder that an earlier attempt of the run made, else a new one."""
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
