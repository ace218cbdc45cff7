"""Reads the `.metadata` of torch's distributed checkpoint, which is a pickle, without trusting it.

Only the names below are looked up, and each becomes an inert record made for this one reading,
so that no code of the file's choosing runs and no class of torch's can be changed by it. What
is read must describe whole dense tensors in files of the same folder; the format's entries for
other objects are refused, since torch would unpickle those without limits.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from ...schemas.errors import CheckpointError
from .values import TENSOR_DTYPES

_METADATA = "torch.distributed.checkpoint.metadata"
_ALLOWED = {
    (_METADATA, "Metadata"),
    (_METADATA, "MetadataIndex"),
    (_METADATA, "TensorStorageMetadata"),
    (_METADATA, "TensorProperties"),
    (_METADATA, "ChunkStorageMetadata"),
    (_METADATA, "_MEM_FORMAT_ENCODING"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
}


@dataclass(frozen=True)
class StoredSlice:
    """Where a tensor's bytes lie; stands in for DCP's own private class."""

    relative_path: str
    offset: int
    length: int
    transform_descriptors: None = None


def read_dcp_metadata(path: Path) -> Metadata:
    """The metadata of a folder of tensors that stepbus wrote.

    Raises:
        CheckpointError: the file holds anything else.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            return _build(_Unpickler(file).load())
        except CheckpointError:
            raise
        except Exception as error:  # a damaged pickle can raise anything
            raise CheckpointError(
                f"{path} is damaged or was not written by stepbus: {error}. "
                "Resume from another checkpoint."
            ) from error


class _Record:
    """Holds whatever the pickle gives an instance of an allowed class; does nothing."""

    def __init__(self, *args: object) -> None:
        self.args = args

    def __setstate__(self, state: object) -> None:
        self.state = state

    def field(self, name: str) -> Any:
        state = self.state
        if not isinstance(state, dict):
            raise ValueError(f"{type(self).__name__} has no fields")
        return state[name]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._path = getattr(file, "name", "metadata")
        self._records: dict[str, type[_Record]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return self._records.setdefault(name, type(name, (_Record,), {}))
        if module == "torch":
            if name == "Size":
                return torch.Size
            if isinstance(dtype := vars(torch).get(name), torch.dtype):
                return dtype
        raise CheckpointError(
            f"{self._path} asks for {module}.{name}, which a checkpoint of stepbus never holds: "
            "it was altered or made by other means, and nothing of it was run. Do not load it."
        )

    def persistent_load(self, pid: object) -> Any:
        raise pickle.UnpicklingError(f"persistent id {pid!r}")


def _build(metadata: Any) -> Metadata:
    tensors = {
        _string(name): _tensor(entry)
        for name, entry in _record(metadata, "Metadata").field("state_dict_metadata").items()
    }
    slices = {}
    for index, entry in metadata.field("storage_data").items():
        name = _string(_record(index, "MetadataIndex").field("fqn"))
        if name not in tensors:
            raise ValueError(f"bytes are stored for the unknown tensor {name!r}")
        slices[MetadataIndex(name, [0] * len(tensors[name].size))] = _slice(entry, tensors[name])
    if len(slices) != len(tensors):
        raise ValueError("a tensor has no stored bytes")
    return Metadata(dict(tensors), storage_data=slices)


def _tensor(entry: Any) -> TensorStorageMetadata:
    record = _record(entry, "TensorStorageMetadata")
    size = _size(record.field("size"))
    dtype = _record(record.field("properties"), "TensorProperties").state[0]  # type: ignore[index]
    if dtype not in TENSOR_DTYPES:
        raise ValueError(f"dtype {dtype} is not one that is stored")
    (chunk,) = record.field("chunks")
    sizes, offsets = (_size(_record(chunk).field(name)) for name in ("sizes", "offsets"))
    if sizes != size or offsets != torch.Size([0] * len(size)):
        raise ValueError("a tensor is stored in parts")
    return TensorStorageMetadata(
        TensorProperties(dtype), size, [ChunkStorageMetadata(offsets, sizes)]
    )


def _slice(entry: Any, tensor: TensorStorageMetadata) -> StoredSlice:
    record = _record(entry, "_StorageInfo")
    name = _string(record.field("relative_path"))
    offset, length = record.field("offset"), record.field("length")
    if Path(name).name != name or name == "..":
        raise ValueError(f"{name!r} is outside of the checkpoint")
    if type(offset) is not int or type(length) is not int or offset < 0:
        raise ValueError(f"offset {offset!r} and length {length!r} are no positions")
    if tensor.size.numel() * tensor.properties.dtype.itemsize > length:
        raise ValueError(f"a tensor is larger than its {length} stored bytes")
    return StoredSlice(name, offset, length)


def _record(value: Any, name: str = "ChunkStorageMetadata") -> _Record:
    if not isinstance(value, _Record) or type(value).__name__ != name:
        raise ValueError(f"a {name} is expected, not a {type(value).__name__}")
    return value


def _string(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"a name is expected, not a {type(value).__name__}")
    return value


def _size(value: Any) -> torch.Size:
    if type(value) is not torch.Size or any(extent < 0 for extent in value):
        raise ValueError(f"a shape is expected, not {value!r}")
    return value
