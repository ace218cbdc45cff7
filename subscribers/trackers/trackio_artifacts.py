"""Texts, images, tables and files as Trackio has them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from ...schemas import Artifact
from .artifact_file import file_name, file_of


@contextlib.contextmanager
def media_of(event: Artifact) -> Iterator[Any]:
    """What `run.log` takes for a text, an image or a table, for the length of the block."""
    import trackio

    if event.kind == "text":
        yield trackio.Markdown(event.read_text())
    elif event.kind == "table":
        columns, rows = event.read_table()
        yield trackio.Table(columns=list(columns), data=[list(row) for row in rows])
    else:
        # By its file, since trackio would encode anew what it is given as pixels.
        with file_of(event) as file:
            yield trackio.Image(str(file))


@contextlib.contextmanager
def file_artifact(event: Artifact) -> Iterator[Any]:
    """A file as an artifact of Trackio's, under its tag, for the length of the block."""
    import trackio

    name = re.sub(r"[^\w.-]+", "-", event.tag).strip("-.") or "file"
    metadata = {"tag": event.tag, "step": event.step}
    artifact = trackio.Artifact(name, type="file", metadata=metadata)
    with file_of(event) as file:
        artifact.add_file(str(file), name=file_name(event))
        yield artifact
