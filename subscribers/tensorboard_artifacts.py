"""Images and tables as TensorBoard shows them."""

from __future__ import annotations

import inspect
import io
from typing import Any

from ..schemas import Artifact
from .tensorboard_file import EventFile

MOST_ROWS = 200
"""Of a table; TensorBoard shows one as the Markdown of a text, all at once."""


def write_image(writer: Any, event: Artifact) -> bool:
    """Writes an image as it is, or, with a writer of the program's own, as pixels.

    False where that writer takes none, or Pillow is missing, which decodes them for it.

    Raises:
        OSError: its file cannot be read.
    """
    if isinstance(writer, EventFile):
        writer.add_encoded_image(event.tag, event.read(), event.step, event.time)
        return True
    add = getattr(writer, "add_image", None)
    if add is None:
        return False
    try:
        import numpy as np
        from PIL import Image
    except ImportError:
        return False
    pixels = np.asarray(Image.open(io.BytesIO(event.read())).convert("RGB"))
    timed = "walltime" in inspect.signature(add).parameters
    add(
        event.tag,
        pixels,
        event.step,
        dataformats="HWC",
        **({"walltime": event.time} if timed else {}),
    )
    return True


def markdown_of(event: Artifact) -> str:
    """A table as Markdown: its first rows, and how many more there are.

    Raises:
        OSError: its file cannot be read.
    """
    columns, rows = event.read_table()
    lines = [_line(columns), "|" + " --- |" * len(columns)]
    lines += [_line(row) for row in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines += ["", f"{len(rows) - MOST_ROWS} further rows are left out."]
    return "\n".join(lines)


def _line(cells: tuple[Any, ...]) -> str:
    texts = ("" if cell is None else _escaped(str(cell)) for cell in cells)
    return f"| {' | '.join(texts)} |"


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("|", "\\|")
    return " ".join(text.splitlines())
