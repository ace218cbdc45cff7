"""Images to log: as they are, or encoded as PNG from the pixels of an array."""

from __future__ import annotations

import contextlib
import io
import os
from typing import Any

import numpy as np
import torch

from ...bus.diagnostics import get_logger
from ...schemas.errors import ArgumentError, StepbusError
from ...schemas.image_format import HEAD, image_type
from ..metric_buffer import MetricBuffer
from .draft import Draft, checked_tag, draft_of_image_file, unknown_format

log = get_logger()

CHANNELS = (1, 3, 4)
"""Grey, RGB, RGBA."""
CAUSE = "log_image"
"""On whose account the training thread waits for an image that is on a device."""
LEVEL = 1
"""How much zlib takes pains: on a photograph four fifths of the time of its default, a tenth more
bytes."""
TOLERANCE = 1e-3
"""How far a float may be beyond 0 to 1 before that is said."""
_SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif"}
_told: set[str] = set()


def draft_of_image(tag: str, image: Any, *, copies: bool) -> Draft:
    """The draft of an image; see `LogsArtifacts.log_image`.

    Raises:
        ArgumentError: no image.
        StepbusError: Pillow is missing, and it is needed.
    """
    tag = checked_tag("log_image", tag)
    if isinstance(image, str | os.PathLike):
        return draft_of_image_file(tag, image, copies=copies)
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
        media_type = image_type(data)
        if media_type is None:
            raise unknown_format(tag, f"{len(data)} bytes that begin with {data[:HEAD]!r}")
        return Draft("image", tag, media_type, _SUFFIXES[media_type], lambda _: data)
    pillow = _pillow(tag)
    if isinstance(image, pillow.Image):
        picture = image
        return Draft("image", tag, "image/png", ".png", lambda _: _png(picture))
    array = image if isinstance(image, torch.Tensor) else _as_array(tag, image)
    layout = _layout(tag, array)
    return Draft(
        "image",
        tag,
        "image/png",
        ".png",
        lambda metrics: _png(pillow.fromarray(_pixels(tag, _on_host(array, metrics), layout))),
    )


def _pillow(tag: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise StepbusError(
            f"log_image({tag!r}, ...) encodes arrays with Pillow, which cannot be imported "
            f"({error}): pip install 'stepbus[image]', or give the bytes of a PNG or JPEG."
        ) from error
    return Image


def _as_array(tag: str, image: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(image)
    except (TypeError, ValueError) as error:
        raise _no_image(tag, f"a {type(image).__name__}") from error
    if array.dtype.kind not in "biuf":
        raise _no_image(tag, f"a {type(image).__name__} of {array.dtype}")
    return array


def _layout(tag: str, array: Any) -> str:
    """HW, HWC or CHW: which dims of a tensor or array are which."""
    shape = tuple(array.shape)
    if isinstance(array, torch.Tensor) and (array.is_complex() or array.is_meta):
        raise _no_image(tag, f"a tensor of {array.dtype} on {array.device}")
    if all(shape):
        if len(shape) == 2:
            return "HW"
        if len(shape) == 3 and shape[2] in CHANNELS:
            return "HWC"
        if len(shape) == 3 and shape[0] in CHANNELS:
            return "CHW"
    raise _no_image(tag, f"an array of shape {shape}")


def _no_image(tag: str, what: str) -> ArgumentError:
    return ArgumentError(
        f"log_image({tag!r}, ...) got {what}: give a path, the bytes of a PNG, JPEG or GIF, or an "
        "array or tensor of numbers with the shape H x W, H x W x C or C x H x W, where C is 1, 3 "
        "or 4."
    )


def _on_host(array: Any, metrics: MetricBuffer) -> np.ndarray[Any, Any]:
    if not isinstance(array, torch.Tensor):
        return np.asarray(array)
    array = array.detach()
    if not array.is_cpu:
        accelerator = metrics.accelerator(array.device)
        if accelerator is not None:
            metrics.refuse_capture(accelerator)
        with metrics.waits.because(CAUSE), metrics.waits.counted(1):
            array = array.cpu()
    if array.dtype == torch.bfloat16:
        array = array.float()
    return np.asarray(array.numpy())


def _pixels(tag: str, array: np.ndarray[Any, Any], layout: str) -> np.ndarray[Any, Any]:
    """H x W, or H x W x 3 or 4, of bytes."""
    if layout == "CHW":
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    most = 1.0 if array.dtype.kind == "f" else 255
    least, largest = array.min(), array.max()
    # Either is NaN where one of them is.
    if not (least >= -TOLERANCE and largest <= most + TOLERANCE):
        _tell(tag, least, largest, most)
    if array.dtype.kind != "f":
        return np.asarray(np.clip(array, 0, 255), np.uint8)
    numbers = np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    return np.asarray(np.rint(np.clip(numbers, 0.0, 1.0) * 255), np.uint8)


def _tell(tag: str, least: Any, largest: Any, most: float) -> None:
    if tag not in _told:
        _told.add(tag)
        log.warning(
            f"log_image({tag!r}, ...) got numbers from {least:.4g} to {largest:.4g}: what "
            f"is beyond 0 to {most:g} is cut off, and NaN is black. Scale it first, for one to "
            "(x - x.min()) / (x.max() - x.min())."
        )


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    with contextlib.suppress(AttributeError):
        picture.load()
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        picture = picture.convert("RGB")
    picture.save(buffer, format="PNG", compress_level=LEVEL)
    return buffer.getvalue()
