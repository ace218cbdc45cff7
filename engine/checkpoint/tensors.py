"""A flat dict of tensors on disk, through torch's distributed checkpoint in a single process."""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from ...schemas.errors import CheckpointError
from .dcp_metadata import read_dcp_metadata

_METADATA_FILE = ".metadata"
_ONE_PROCESS = "torch.distributed is disabled"
_TORCH_LOG = logging.getLogger("c10d-NullHandler-dcp_logger")


def write_tensors(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Writes named tensors of any device into a new folder; copies device memory first.

    Raises:
        OSError and what torch makes of it: the folder cannot be written.
    """
    folder.mkdir()
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    try:
        with _quiet:
            save(dict(tensors), storage_writer=_Writer(folder), planner=planner, no_dist=True)
        return
    except CheckpointException as error:
        original = _original(error)
    raise original  # out here, so that it keeps the error it came from


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Reads all tensors of a folder into CPU memory.

    Raises:
        CheckpointError: the folder is damaged, or holds anything but tensors.
    """
    try:
        metadata = read_dcp_metadata(folder / _METADATA_FILE)
        tensors: dict[str, Any] = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            for name, entry in metadata.state_dict_metadata.items()
            if not isinstance(entry, BytesStorageMetadata)
        }
        reader = _Reader(folder, metadata)
        with _quiet:
            load(tensors, storage_reader=reader, planner=_Planner(), no_dist=True)
    except CheckpointException as error:
        original = _original(error)
        if not isinstance(original, Exception):
            raise original from None
        raise _unreadable(folder, original) from original
    except (OSError, RuntimeError) as error:
        raise _unreadable(folder, error) from error
    return tensors


class _Quiet:
    """Without torch's warning that this is one process, and its log of each error and call.

    Both are of the whole process: with several trainings in it, the first to come in switches them
    off and the last to go out puts them back as they were.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._put_back = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._put_back.callback(setattr, _TORCH_LOG, "disabled", _TORCH_LOG.disabled)
                self._put_back.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", message=_ONE_PROCESS)
                _TORCH_LOG.disabled = True
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._put_back.close()


_quiet = _Quiet()


class _Writer(FileSystemWriter):
    def __init__(self, folder: Path) -> None:
        # The manifest syncs every file; without copying ahead one tensor at a time is copied.
        super().__init__(folder, sync_files=False, per_thread_copy_ahead=0, overwrite=False)

    def storage_meta(self) -> StorageMeta | None:
        """Nothing: it would put this machine's path and a random number into the file."""
        return None


class _Reader(FileSystemReader):
    def __init__(self, folder: Path, metadata: Metadata) -> None:
        super().__init__(folder)
        self._metadata = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The metadata that was checked, where the base class would unpickle the file."""
        return self._metadata


class _Planner(DefaultLoadPlanner):
    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Refuses, where the base class would unpickle without limits."""
        raise CheckpointError(f"{read_item.dest_index.fqn!r} is not a tensor. Do not load it.")


def _original(error: CheckpointException) -> BaseException:
    """What was raised, an interrupt too; torch wraps it into an exception of its own."""
    return next((failure for failure, _ in error.failures.values()), error)


def _unreadable(folder: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The tensors in {folder} cannot be read: {error}. Resume from another checkpoint."
    )
