"""Texts, images, tables and files as wandb has them."""

from __future__ import annotations

import contextlib
import html
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
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


def file_artifact(event: Artifact, name: str, kind: str = "file") -> Any:
    """A file, or a text as one, as an artifact of wandb's."""
    import wandb

    artifact = wandb.Artifact(name=name, type=kind)
    artifact.metadata = {"tag": event.tag, "step": event.step}
    with contextlib.redirect_stderr(io.StringIO()), file_of(event) as file:
        artifact.add_file(str(file), name=file_name(event))
    return artifact


def folder_artifact(folder: Path, name: str, about: Mapping[str, Any]) -> Any:
    """A checkpoint as an artifact of wandb's."""
    import wandb

    artifact = wandb.Artifact(name=name, type="model")
    artifact.metadata = dict(about)
    with contextlib.redirect_stderr(io.StringIO()):  # It shows its progress there.
        artifact.add_dir(str(folder))
    return artifact


def artifact_name(name: str) -> str:
    """A name that wandb takes for an artifact."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
