"""Event files of TensorBoard, through tensorboard's own writer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..schemas.image_format import image_size

FLUSH_EVERY_S = 5.0
PREFIX = "events.out.tfevents."
RGB = 3
"""What TensorBoard calls the colour space of three channels; it goes by the image itself."""


class EventFile:
    """Writes scalars and text to a new event file; its methods are those of `SummaryWriter`.

    Args:
        folder: where the file goes; made where it is missing.

    Raises:
        ImportError: tensorboard is not installed.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event = event_pb2
        self._summary = summary_pb2
        self._tensor = tensor_pb2
        self._types = types_pb2
        _await_a_later_name(folder)
        self._writer = EventFileWriter(str(folder), flush_secs=FLUSH_EVERY_S)

    def add_scalar(
        self,
        tag: str,
        scalar_value: float,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Writes a number at a step; `walltime` (now by default) in seconds since 1970."""
        self.add_values({tag: scalar_value}, global_step, walltime)

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Writes text, which TensorBoard shows as Markdown, at a step."""
        self.add_values({tag: text_string}, global_step, walltime)

    def add_values(
        self,
        values: Mapping[str, float | str],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Writes several values by their tags, numbers and text, as one record."""
        summary = self._summary.Summary(
            value=[
                self._text(tag, value)
                if isinstance(value, str)
                else self._summary.Summary.Value(tag=tag, simple_value=float(value))
                for tag, value in values.items()
            ]
        )
        self._write(walltime, global_step, summary=summary)

    def add_histogram_raw(
        self,
        tag: str,
        min: float,  # noqa: A002 - the names of SummaryWriter's
        max: float,  # noqa: A002
        num: int,
        sum: float,  # noqa: A002
        sum_squares: float,
        bucket_limits: Sequence[float],
        bucket_counts: Sequence[int],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Writes a histogram whose values have been counted, by the right edges of its bins."""
        histogram = self._summary.HistogramProto(
            min=min,
            max=max,
            num=num,
            sum=sum,
            sum_squares=sum_squares,
            bucket_limit=bucket_limits,
            bucket=bucket_counts,
        )
        value = self._summary.Summary.Value(tag=tag, histo=histogram)
        self._write(walltime, global_step, summary=self._summary.Summary(value=[value]))

    def add_encoded_image(
        self,
        tag: str,
        data: bytes,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Writes a PNG, JPEG or GIF as it is, at a step."""
        width, height = image_size(data) or (0, 0)
        image = self._summary.Summary.Image(
            width=width, height=height, colorspace=RGB, encoded_image_string=data
        )
        value = self._summary.Summary.Value(tag=tag, image=image)
        self._write(walltime, global_step, summary=self._summary.Summary(value=[value]))

    def start_session(self, global_step: int, walltime: float | None = None) -> None:
        """Has readers leave out what earlier files have from this step on."""
        start = self._event.SessionLog(status=self._event.SessionLog.START)
        self._write(walltime, global_step, session_log=start)

    def flush(self) -> None:
        """Puts on disk what was written."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

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

    def _write(self, walltime: float | None, step: int | None, **content: Any) -> None:
        now = time.time() if walltime is None else walltime
        self._writer.add_event(self._event.Event(wall_time=now, step=step, **content))


def _await_a_later_name(folder: Path) -> None:
    """Waits, for a second at most, until the name of a new file comes after those in the folder.

    Readers go by the names, which begin with the second, and after that are in no order of time.
    """
    seconds = [
        path.name.removeprefix(PREFIX).partition(".")[0] for path in folder.glob(f"{PREFIX}*")
    ]
    newest = max((int(each) for each in seconds if each.isdecimal()), default=0)
    if newest == int(time.time()):
        time.sleep(newest + 1 - time.time())
