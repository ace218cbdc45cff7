"""The way back from named tensors and a JSON document to the nested state they came from."""

from __future__ import annotations

import base64
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ...schemas.errors import CheckpointError
from .values import NUMPY_KINDS, JsonValue

_Object = dict[str, Any]


def join(document: JsonValue, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Rebuilds exactly what `split` took apart, with the tensors as they are given.

    Raises:
        CheckpointError: the document was altered or does not belong to these tensors.
    """
    try:
        return _Joiner(tensors).decode(document)
    except (
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        ValueError,
        RuntimeError,
        struct.error,
    ) as error:
        raise CheckpointError(
            f"The document of a saved state is damaged or does not fit its tensors: {error}. "
            "Resume from another checkpoint."
        ) from error


class _Joiner:
    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors
        self._strided: dict[str, torch.Tensor] = {}
        self._decoders: dict[str, Callable[[_Object], Any]] = {
            "dict": lambda o: {key: self.decode(item) for key, item in o["dict"].items()},
            "items": lambda o: self._pairs(o["items"]),
            "ordered": self._ordered,
            "counter": lambda o: Counter(self._pairs(o["counter"])),
            "tuple": lambda o: tuple(map(self.decode, o["tuple"])),
            "size": lambda o: torch.Size(map(self.decode, o["size"])),
            "int": lambda o: int(o["int"], 16),
            "float": lambda o: struct.unpack(">d", bytes.fromhex(o["float"]))[0],
            "bytes": lambda o: base64.b64decode(o["bytes"], validate=True),
            "torch_dtype": _torch_dtype,
            "device": lambda o: torch.device(o["device"]),
            "scalar": _scalar,
            "array": self._array,
            "tensor": self._tensor,
        }

    def decode(self, document: Any) -> Any:
        if isinstance(document, list):
            return [self.decode(item) for item in document]
        if not isinstance(document, dict):
            return document
        tag = next(iter(document), "")
        if tag not in self._decoders:
            raise ValueError(f"unknown tag {tag!r}")
        return self._decoders[tag](document)

    def _pairs(self, pairs: list[list[Any]]) -> dict[Any, Any]:
        return {self.decode(key): self.decode(item) for key, item in pairs}

    def _ordered(self, document: _Object) -> OrderedDict[Any, Any]:
        ordered = OrderedDict(self._pairs(document["ordered"]))
        versions = self.decode(document["metadata"])
        if versions is not None:
            ordered._metadata = versions  # type: ignore[attr-defined]  # torch keeps it there
        return ordered

    def _tensor(self, document: _Object) -> torch.Tensor:
        name = document["tensor"]
        if "strides" not in document:
            return self._tensors[name]
        if name not in self._strided:
            self._strided[name] = _with_strides(self._tensors[name], document["strides"])
        return self._strided[name]

    def _array(self, document: _Object) -> np.ndarray[Any, Any]:
        content = bytearray(self._tensors[document["array"]].numpy().tobytes())
        shape = tuple(document["shape"])
        return np.ndarray(shape, _numpy_dtype(document), content, order=document["order"])


def _with_strides(tensor: torch.Tensor, strides: list[int]) -> torch.Tensor:
    span = sum((size - 1) * stride for size, stride in zip(tensor.shape, strides, strict=True))
    if tensor.numel() and (min(strides) < 0 or span != tensor.numel() - 1):
        raise ValueError(f"strides {strides} do not fit the shape {tuple(tensor.shape)}")
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def _torch_dtype(document: _Object) -> torch.dtype:
    found = vars(torch).get(document["torch_dtype"])
    if not isinstance(found, torch.dtype):
        raise ValueError(f"torch has no dtype {document['torch_dtype']!r}")
    return found


def _numpy_dtype(document: _Object) -> np.dtype[Any]:
    dtype = np.dtype(document["dtype"])
    if dtype.kind not in NUMPY_KINDS:
        raise ValueError(f"dtype {dtype} is not one that is stored")
    return dtype


def _scalar(document: _Object) -> np.generic:
    content = base64.b64decode(document["scalar"], validate=True)
    scalar = np.frombuffer(content, _numpy_dtype(document))[0]
    assert isinstance(scalar, np.generic)
    return scalar
