"""Takes a nested state apart into named tensors and a JSON document, and joins them again.

In the document a JSON object is always one tagged value, such as `{"tuple": [1, 2]}`; plain
JSON stands for itself. Nothing is pickled, so reading a document can run no code.
"""

from __future__ import annotations

import base64
import math
import struct
from collections import Counter, OrderedDict
from typing import Any, TypeAlias

import numpy as np
import torch

from ...schemas.errors import CheckpointError
from .tensor_identity import Identity, identity

JsonValue: TypeAlias = "dict[str, JsonValue] | list[JsonValue] | str | int | float | bool | None"
Path: TypeAlias = tuple[object, ...]

STORABLE = (
    "dict, OrderedDict, Counter, list, tuple, None, bool, int, float, str, bytes, numpy numbers "
    "and arrays of them, dense torch tensors, torch.Size, torch.dtype and torch.device"
)
NUMPY_KINDS = "biufcMm"

_DTYPE_NAMES = """
    bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64
    complex32 complex64 complex128
    float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu
"""
TENSOR_DTYPES = frozenset(
    getattr(torch, name) for name in _DTYPE_NAMES.split() if hasattr(torch, name)
)
_JSON_INT = 2**63


def split(value: object, name: str = "") -> tuple[dict[str, torch.Tensor], JsonValue]:
    """Separates the tensors of a nested value from everything else.

    The tensors are detached but neither copied nor moved; one that occurs twice is named once.
    Their names are dotted paths, below `name`. A Parameter comes back as a plain tensor.

    Raises:
        CheckpointError: something in `value` cannot be stored; names its path and type.
    """
    splitter = _Splitter()
    document = splitter.encode(value, (name,) if name else ())
    return splitter.tensors, document


class _Splitter:
    def __init__(self) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._known: dict[Identity, str] = {}
        self._open: set[int] = set()

    def encode(self, value: object, path: Path) -> JsonValue:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value  # type: ignore[return-value]  # narrowed by the exact type above
        if kind is int or kind is float:
            return _encode_number(value)  # type: ignore[arg-type]  # as above
        if kind in (dict, OrderedDict, Counter, list, tuple, torch.Size):
            return self._encode_nested(value, path)
        if isinstance(value, torch.Tensor):
            return self._encode_tensor(value, path)
        if kind is np.ndarray:
            return self._encode_array(value, path)  # type: ignore[arg-type]  # as above
        return _encode_leaf(value, path)

    def _encode_nested(self, value: Any, path: Path) -> JsonValue:
        if id(value) in self._open:
            raise CheckpointError(f"Cannot store {_show(path)} in a checkpoint: it holds itself.")
        self._open.add(id(value))
        try:
            if isinstance(value, dict):
                return self._encode_mapping(value, path)
            items = [self.encode(item, (*path, index)) for index, item in enumerate(value)]
        except RecursionError:
            raise CheckpointError(
                f"Cannot store {_show(path[:8])} in a checkpoint: it is nested too deeply."
            ) from None
        finally:
            self._open.discard(id(value))
        if isinstance(value, list):
            return items
        return {"size" if type(value) is torch.Size else "tuple": items}

    def _encode_mapping(self, value: dict[Any, Any], path: Path) -> JsonValue:
        if type(value) is dict and all(type(key) is str for key in value):
            return {"dict": {key: self.encode(item, (*path, key)) for key, item in value.items()}}
        pairs: list[JsonValue] = [
            [_encode_key(key, path), self.encode(item, (*path, key))] for key, item in value.items()
        ]
        if type(value) is dict:
            return {"items": pairs}
        if type(value) is Counter:
            return {"counter": pairs}
        # A module's state_dict carries the versions of its parts in this attribute.
        versions = getattr(value, "_metadata", None)
        return {"ordered": pairs, "metadata": self.encode(versions, (*path, "_metadata"))}

    def _encode_tensor(self, value: torch.Tensor, path: Path) -> JsonValue:
        if type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise _unknown(path, f"a {type(value).__module__}.{type(value).__qualname__}")
        strided = value.layout == torch.strided and not value.is_nested
        if not strided or value.is_meta or value.dtype not in TENSOR_DTYPES:
            raise _unknown(path, f"a {value.layout} {value.dtype} tensor on {value.device}")
        key = self._name(value, path)
        if value.is_contiguous():
            return {"tensor": key}
        strides = torch.empty_like(value, device="meta").stride()
        return {"tensor": key, "strides": list(strides)}

    def _encode_array(self, value: np.ndarray[Any, Any], path: Path) -> JsonValue:
        if value.dtype.kind not in NUMPY_KINDS:
            raise _unknown(path, f"a numpy array of {value.dtype}")
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        content = np.frombuffer(bytearray(value.tobytes("F" if order == "F" else "C")), np.uint8)
        return {
            "array": self._name(torch.from_numpy(content), path),
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "order": order,
        }

    def _name(self, tensor: torch.Tensor, path: Path) -> str:
        same = identity(tensor)
        if same is not None and same in self._known:
            return self._known[same]
        name = base = ".".join(map(_escape, path)) or "value"
        number = 1
        while name in self.tensors:
            number += 1
            name = f"{base}~{number}"
        self.tensors[name] = tensor.detach().resolve_conj().resolve_neg()
        if same is not None:
            self._known[same] = name
        return name


def _encode_number(value: int | float) -> JsonValue:
    if isinstance(value, int):
        if -_JSON_INT <= value < _JSON_INT:
            return value
        return {"int": hex(value)}
    if math.isfinite(value):
        return value
    return {"float": struct.pack(">d", value).hex()}


def _encode_key(key: object, path: Path) -> JsonValue:
    if key is None or type(key) in (bool, str):
        return key  # type: ignore[return-value]  # narrowed by the exact type above
    if type(key) in (int, float):
        return _encode_number(key)  # type: ignore[arg-type]  # as above
    raise CheckpointError(
        f"Cannot store {_show(path)} in a checkpoint: its key {key!r} is a {type(key).__name__}, "
        "and a key may be str, int, float, bool or None."
    )


def _encode_leaf(value: object, path: Path) -> JsonValue:
    if type(value) is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, np.generic) and value.dtype.kind in NUMPY_KINDS:
        content = base64.b64encode(value.tobytes()).decode()
        return {"scalar": content, "dtype": value.dtype.str}
    if isinstance(value, torch.dtype):
        return {"torch_dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    raise _unknown(path, f"a {type(value).__module__}.{type(value).__qualname__}")


def _unknown(path: Path, kind: str) -> CheckpointError:
    return CheckpointError(
        f"Cannot store {_show(path)} in a checkpoint: it is {kind}. A state may hold {STORABLE}; "
        "turn it into these in its state_dict()."
    )


def _show(path: Path) -> str:
    return ".".join(map(str, path)) or "the value"


def _escape(part: object) -> str:
    return str(part).replace("%", "%25").replace(".", "%2E")
