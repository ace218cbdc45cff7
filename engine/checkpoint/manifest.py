"""manifest.json: what a whole checkpoint consists of, written after everything else."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from ...schemas.errors import CheckpointError

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint: its size in bytes and its SHA-256 as hex."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The parts of a checkpoint; `files` maps a relative POSIX path to its entry."""

    step: int
    stepbus: str
    torch: str
    files: Mapping[str, FileEntry]
    documents: tuple[str, ...] | None = None
    """Which files are documents; None where it is not on record."""


def write_manifest(folder: Path, step: int, documents: Iterable[str] | None = None) -> Manifest:
    """Sums up and syncs every file below `folder`, then writes and syncs manifest.json.

    Args:
        documents: which of the files hold text that stepbus reads back.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): _sum_and_sync(path) for path in paths}
    named = tuple(documents) if documents is not None else None
    manifest = Manifest(step, _stepbus_version(), str(torch.__version__), files, named)
    content: dict[str, Any] = {
        "format": FORMAT,
        "step": step,
        "stepbus": manifest.stepbus,
        "torch": manifest.torch,
        "files": {name: {"size": e.size, "sha256": e.sha256} for name, e in files.items()},
    }
    if named is not None:
        content["documents"] = list(named)
    content["sum"] = _sum_of(content)
    path = folder / MANIFEST
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    sync(path)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Reads manifest.json without looking at the files it names.

    Raises:
        CheckpointError: it is missing, altered, or of a newer format.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} is not a whole checkpoint: {MANIFEST} is missing, so its writing was cut "
            "off or the file was deleted. Resume from another checkpoint."
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise _altered(path) from error
    if isinstance(content, dict) and isinstance(content.get("format"), int):
        _check_format(path, content["format"])
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _altered(path) from error


def verify(folder: Path, *, deep: bool = True) -> Manifest:
    """Checks the files of a checkpoint against its manifest, which it returns.

    Without `deep` only presence and sizes are compared, which does not read the files.

    Raises:
        CheckpointError: names the first file that is missing, cut off or altered.
    """
    manifest = read_manifest(folder)
    for name, entry in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
            if size != entry.size:
                raise _damaged(folder, f"{name} has {size} bytes instead of {entry.size}")
            if deep and sha256_of(path) != entry.sha256:
                raise _damaged(folder, f"{name} was altered (its SHA-256 differs)")
        except FileNotFoundError:
            raise _damaged(folder, f"{name} is missing") from None
        except OSError as error:
            raise _damaged(folder, f"{name} cannot be read ({error.strerror})") from error
    return manifest


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Makes the storage hold a file's bytes, or a folder's entries, before it returns."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sum_and_sync(path: Path) -> FileEntry:
    sync(path)
    return FileEntry(path.stat().st_size, sha256_of(path))


def _sum_of(content: Mapping[str, Any]) -> str:
    body = {key: value for key, value in content.items() if key != "sum"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _parse(content: Any) -> Manifest:
    if content["sum"] != _sum_of(content):
        raise ValueError("the manifest's own sum differs")
    files = {}
    for name, entry in content["files"].items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{name!r} is outside of the checkpoint")
        files[name] = FileEntry(int(entry["size"]), str(entry["sha256"]))
    named = content.get("documents")
    documents = tuple(name for name in files if name in named) if named is not None else None
    step = int(content["step"])
    return Manifest(step, str(content["stepbus"]), str(content["torch"]), files, documents)


def _check_format(path: Path, found: int) -> None:
    if found != FORMAT:
        raise CheckpointError(
            f"{path} has format {found}, and this version of stepbus reads format {FORMAT}: "
            "use the version of stepbus that wrote it."
        )


def _altered(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path} was altered or cut off, so the checkpoint cannot be trusted. "
        "Resume from another checkpoint."
    )


def _damaged(folder: Path, fault: str) -> CheckpointError:
    return CheckpointError(
        f"Checkpoint {folder} is damaged: {fault}. Resume from another checkpoint."
    )


def _stepbus_version() -> str:
    try:
        return importlib.metadata.version("stepbus")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
