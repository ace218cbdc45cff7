"""Texts, images, tables and files as wandb has them."""

from __future__ import annotations

import contextlib
import html
import io
from collections.abc import Iterator
from typing import Any

from ...schemas import Artifact
from .artifact_file import file_name, file_of


@contextlib.contextmanager
def media_of(event: Artifact) -> Iterator[Any]:
    """What `run.log` takes for a text, an image or a table, for the length of the block.

    Raises:
        Exception: wandb's own, where Pillow is missing for an image.
    """
    import wandb

    if event.kind == "text":
        # As it is: wandb's Html knows no plain text, and its tables cut long ones.
        yield wandb.Html(f"<pre>{html.escape(event.read_text())}</pre>", inject=False)
    elif event.kind == "table":
        columns, rows = event.read_table()
        yield wandb.Table(
            columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True
        )
    else:
        # By its file, since wandb would encode anew what it is given as pixels.
        with file_of(event) as file:
            yield wandb.Image(str(file))


def file_artifact(event: Artifact, name: str) -> Any:
    """A file as an artifact of wandb's, under its tag."""
    import wandb

    artifact = wandb.Artifact(name=name, type="file")
    artifact.metadata = {"tag": event.tag, "step": event.step}
    with contextlib.redirect_stderr(io.StringIO()), file_of(event) as file:
        artifact.add_file(str(file), name=file_name(event))
    return artifact
