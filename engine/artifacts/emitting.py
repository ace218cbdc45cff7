"""The artifacts that a step was given to log, their files, and their events."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...bus import RunLink
from ...bus.diagnostics import get_logger
from ..metric_buffer import MetricBuffer
from .draft import Draft, copy_of

log = get_logger()

FOLDER = "artifacts"
"""Where in the run's folder the files are that events are too small for."""
MOST_INLINE = 64 * 1024
"""Bytes that an event holds; more become a file. Events wait in memory, thousands at a time."""


class Artifacts:
    """Says what `run.log_text` and its like were given: with the step that they belong to.

    Args:
        link: the open run.
        metrics: what waits for a device are noted with.
        folder: that of the run.
        in_step: whether a step has begun and not ended.
    """

    def __init__(
        self, link: RunLink, metrics: MetricBuffer, folder: Path, in_step: Callable[[], bool]
    ) -> None:
        self._link = link
        self._metrics = metrics
        self._folder = folder.absolute() / FOLDER
        self._in_step = in_step
        self._emitter = link.emitters["artifact"]
        self.pending: list[dict[str, Any]] = []
        """What was logged since the last step ended."""

    def add(self, draft: Draft) -> None:
        """Encodes an artifact, and says it: within a step once that has ended, else at once.

        Nothing is done where nobody listens. A disk that takes no file is said, and no reason for
        a training to end.
        """
        if not self._emitter.active:
            return
        in_step = self._in_step()
        try:
            values = self._values(draft, self._link.state.global_step + in_step)
        except OSError as error:
            log.error(f"the {draft.kind} {draft.tag!r} was not logged: {error}")
            return
        self.pending.append(values)
        if not in_step:
            self.emit()

    def emit(self) -> None:
        """Says what has been logged; waits for nothing."""
        pending, self.pending = self.pending, []
        for values in pending:
            if self._emitter.active:
                self._link.fire(self._emitter, values)

    def _values(self, draft: Draft, step: int) -> dict[str, Any]:
        values = {"kind": draft.kind, "tag": draft.tag, "media_type": draft.media_type}
        if draft.file is not None:
            return values | self._file_values(draft, draft.file, step)
        data = draft.encode(self._metrics)
        if len(data) <= MOST_INLINE:
            content = {"data": data} if draft.fields is None else dict(draft.fields)
            return {**values, **content, "num_bytes": len(data)}
        path = self._new_path(draft, step)
        path.write_bytes(data)
        return values | _stored(path)

    def _file_values(self, draft: Draft, file: Path, step: int) -> dict[str, Any]:
        if not draft.copies:
            return _stored(file)
        path = self._new_path(draft, step)
        copy_of(file, path)
        return _stored(path)

    def _new_path(self, draft: Draft, step: int) -> Path:
        """A file that is nobody else's: a resumed run takes its steps again."""
        self._folder.mkdir(parents=True, exist_ok=True)
        slug = re.sub(r"[^\w.-]+", "_", draft.tag).strip("._")[-60:] or draft.kind
        slug = slug.removesuffix(draft.suffix)
        return self._folder / f"{slug}-step{step}-{uuid.uuid4().hex[:8]}{draft.suffix}"


def _stored(path: Path) -> dict[str, Any]:
    found = path.stat()
    return {"path": str(path), "num_bytes": found.st_size, "modified": found.st_mtime}
