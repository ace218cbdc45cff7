"""What was given to be logged as an artifact: checked, and encoded only where somebody listens."""

from __future__ import annotations

import mimetypes
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ...schemas.errors import ArgumentError
from ...schemas.image_format import HEAD, image_type
from ...schemas.values import encodable
from ..metric_buffer import MetricBuffer

Kind = Literal["text", "image", "table", "file"]


class Draft(NamedTuple):
    """An artifact on its way to its event."""

    kind: Kind
    tag: str
    media_type: str
    suffix: str
    """Of a file that it becomes."""
    encode: Callable[[MetricBuffer], bytes] = lambda metrics: b""
    """Gives its bytes; may wait for a device."""
    fields: Mapping[str, Any] | None = None
    """How the event holds it while it is small; None for the bytes themselves."""
    file: Path | None = None
    """The file that it is already."""
    copies: bool = False
    """Whether that file is copied, since others may write to it."""


def checked_tag(method: str, tag: object) -> str:
    """The tag, as UTF-8 can spell it.

    Raises:
        ArgumentError: no text, or none.
    """
    if not isinstance(tag, str) or not tag:
        raise ArgumentError(
            f"{method}() got the tag {tag!r}: give a name, such as 'samples/first'."
        )
    return str(encodable(tag))


def draft_of_text(tag: str, text: str) -> Draft:
    """The draft of a text.

    Raises:
        ArgumentError: no text.
    """
    tag = checked_tag("log_text", tag)
    if not isinstance(text, str):
        raise ArgumentError(
            f"log_text({tag!r}, ...) got a {type(text).__name__}: give a str, such as str(value)."
        )
    spelled = str(encodable(text))
    return Draft("text", tag, "text/plain", ".txt", lambda _: spelled.encode(), {"text": spelled})


def draft_of_file(path: str | os.PathLike[str], tag: str | None, *, copies: bool) -> Draft:
    """The draft of a file.

    Raises:
        ArgumentError: there is none.
    """
    file = found("log_file", path)
    tag = file.name if tag is None else tag
    media_type = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
    tag = checked_tag("log_file", tag)
    return Draft("file", tag, media_type, file.suffix, file=file, copies=copies)


def draft_of_image_file(tag: str, path: str | os.PathLike[str], *, copies: bool) -> Draft:
    """The draft of an image in a file.

    Raises:
        ArgumentError: there is none, or it is of no format that trackers take.
    """
    file = found(f"log_image({tag!r}, ...)", path)
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    media_type = image_type(head)
    if media_type is None:
        raise unknown_format(tag, f"the file {str(path)!r}, which begins with {head!r}")
    return Draft("image", tag, media_type, file.suffix, file=file, copies=copies)


def unknown_format(tag: str, what: str) -> ArgumentError:
    """The error for bytes that are no image of a known format."""
    return ArgumentError(
        f"log_image({tag!r}, ...) got {what}: give a PNG, JPEG or GIF, an array, or use log_file."
    )


def found(method: str, path: str | os.PathLike[str]) -> Path:
    """The absolute path of a file that is there.

    Raises:
        ArgumentError: it is not, or it is no file.
    """
    if not isinstance(path, str | os.PathLike) or isinstance(os.fspath(path), bytes):
        raise ArgumentError(f"{method} got {path!r} for a path: give a str or a Path.")
    file = Path(path).expanduser().absolute()
    if file.is_dir():
        raise ArgumentError(
            f"{method} got {str(path)!r}, which is a folder: give its files one by one, or an "
            "archive of it (shutil.make_archive)."
        )
    if not file.is_file():
        raise ArgumentError(f"{method} got {str(path)!r}, and there is no file {file}.")
    if not os.access(file, os.R_OK):
        raise ArgumentError(f"{method} got {str(path)!r}, which this process may not read.")
    return file


def copy_of(file: Path, to: Path) -> None:
    """Copies the contents of a file; the system does it where it can."""
    shutil.copyfile(file, to)
