"""Uploaded checkpoints from a program: the newest whole one, fetching one, sending one."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ...schemas.errors import CheckpointError, DeliveryError, StepbusError
from .bandwidth import Bandwidth
from .contents import contents_of, step_of
from .destination import Progress
from .interruption import Interruption, LocalFileError
from .keeping import newest_whole
from .remote_folder import RemoteFolder, checked_address
from .transfer import Transfer
from .uploading import say_again


def latest_upload(address: str, *, storage_options: Mapping[str, Any] | None = None) -> str | None:
    """The address of the checkpoint that was written last of those whose upload is whole.

    Args:
        address: the one that was given to `UploadCallback`.
        storage_options: for fsspec.

    Raises:
        ArgumentError: that is no address.
        DeliveryError: it cannot be reached, or a package is missing.
    """
    address = checked_address(address)
    remote = RemoteFolder(address, storage_options)
    with _reached(remote):
        found = newest_whole(remote)
    return f"{address}/{found[0]}" if found is not None else None


def download_checkpoint(
    address: str,
    folder: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> str:
    """Fetches one uploaded checkpoint into a folder, under its own name; where it is then.

    It is there whole or not at all: every file's SHA-256 is compared. One that is there already is
    left as it is.

    Args:
        address: of the checkpoint, as `latest_upload` gives it.
        folder: where its folder goes, such as an `output_dir`.
        storage_options: for fsspec.

    Raises:
        ArgumentError: that is no address.
        CheckpointError: there is no whole checkpoint, or something else of its name in the folder.
        DeliveryError: it cannot be reached, or was altered.
    """
    parent, _, name = checked_address(address).rpartition("/")
    remote = RemoteFolder(parent, storage_options)
    with _reached(remote):
        marker = remote.marker(name)
    if marker is None:
        raise CheckpointError(
            f"{remote.show(name)} is no whole upload of a checkpoint: it has no COMPLETE.json. "
            "latest_upload(...) finds the newest that is whole."
        )
    target = Path(folder) / name
    if target.exists():
        there = contents_of(target, "all", Interruption())
        if {file: there.files.get(file) for file in marker.files} == dict(marker.files):
            return str(target)
        raise CheckpointError(f"{target} is another checkpoint: move it away, or choose a folder.")
    aside = target.with_name(f".{name}.download")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with _reached(remote):
            for file, expected in marker.files.items():
                path = aside / file
                path.parent.mkdir(parents=True, exist_ok=True)
                remote.receive(path, expected, name, file)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return str(target)


def upload_checkpoint(
    folder: str | os.PathLike[str],
    address: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
    what: Literal["all", "model"] = "all",
    max_mb_per_s: float | None = None,
    tries: int = 3,
) -> str:
    """Uploads one checkpoint, or what of it is missing, as `UploadCallback` does; its address.

    Args:
        folder: the checkpoint, such as "out/checkpoint-100".
        address: what it goes under, as given to `UploadCallback`.
        storage_options, what, max_mb_per_s, tries: as there.

    Raises:
        ArgumentError: that is no address.
        CheckpointError: the folder cannot be read, or has another name.
        DeliveryError: the address cannot be reached.
    """
    path, interruption = Path(folder), Interruption()
    if step_of(path.name) is None:
        raise CheckpointError(f"{path} is no checkpoint: its name is to be checkpoint-<step>.")
    remote = RemoteFolder(checked_address(address), storage_options)
    bandwidth = Bandwidth(max_mb_per_s, interruption.wait)
    transfer = Transfer(remote, bandwidth, interruption, tries, say_again)
    try:
        with _reached(remote):
            transfer.send(path, contents_of(path, what, interruption), Progress())
    except LocalFileError as error:
        raise CheckpointError(f"{path} was not uploaded: {error}.") from error
    return f"{checked_address(address)}/{path.name}"


@contextlib.contextmanager
def _reached(remote: RemoteFolder) -> Iterator[None]:
    try:
        yield
    except (StepbusError, LocalFileError):
        raise
    except Exception as error:
        raise DeliveryError(
            f"{remote.address} could not be reached ({type(error).__name__}: {error}): look at the "
            "address and the credentials; what was done stays, and the next call goes on."
        ) from error
