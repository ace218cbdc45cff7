"""Writes a checkpoint aside and renames it, so that it is there whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn

from ...schemas.errors import ArgumentError, CheckpointError
from .aside import aside, clear_abandoned, discard
from .layout import TENSORS, VALUES, WEIGHTS, checkpoint_folder
from .manifest import MANIFEST, sync, write_manifest
from .tensors import write_tensors
from .values import split
from .weights import write_weights

_OWN = {MANIFEST, VALUES, TENSORS}
_RESERVED = _OWN | {WEIGHTS}
_RUST_ERRNO = re.compile(r"\(os error (\d+)\)")


def check_writable(output_dir: str | os.PathLike[str]) -> None:
    """Makes the output folder if need be and proves that a file can be written in it.

    Raises:
        ArgumentError: it cannot be made or written.
    """
    root = Path(output_dir)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"stepbus")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"output_dir {str(root)!r} cannot be written: {reason}. Give a folder that can be "
            "created and written, with space for the checkpoints."
        ) from error


def write_checkpoint(
    output_dir: str | os.PathLike[str],
    step: int,
    *,
    states: Mapping[str, object],
    model: nn.Module | None = None,
    write_model: Callable[[Path], None] | None = None,
    documents: Mapping[str, str] | None = None,
) -> Path:
    """Writes `checkpoint-<step>` and returns its folder; waits until the storage holds it.

    A checkpoint of the same step is replaced. An interrupt leaves nothing behind either.

    Args:
        states: nested values by name, such as an optimizer's state_dict().
        model: its weights become model.safetensors.
        write_model: in place of `model`: puts the model's files into the folder it is called with,
            where the checkpoint is being written. A document of the same name replaces one.
        documents: more files, as text by file name.

    Raises:
        ArgumentError: `step` is negative, a document has a name that is not free, or both `model`
            and `write_model` are given.
        CheckpointError: it cannot be written; the checkpoints before it are untouched.
    """
    if model is not None and write_model is not None:
        raise ArgumentError("Give model or write_model, not both: each writes the model's files.")
    _check_arguments(step, documents or {})
    target = checkpoint_folder(output_dir, step)
    partial = aside(target, "partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(target.parent)
        discard(partial)
        partial.mkdir()
        tensors, values = split(dict(states))
        if model is not None:
            write_weights(partial / WEIGHTS, model)
        elif write_model is not None:
            _write_model_files(partial, target, write_model)
        for name, text in (documents or {}).items():
            (partial / name).write_text(text, encoding="utf-8", newline="")
        (partial / VALUES).write_text(json.dumps(values, allow_nan=False), encoding="utf-8")
        write_tensors(partial / TENSORS, tensors)
        write_manifest(partial, step, documents or {})
        for folder in (*(path for path in partial.rglob("*") if path.is_dir()), partial):
            sync(folder)
        _put_in_place(partial, target)
    except BaseException as error:
        discard(partial)
        if isinstance(error, CheckpointError) or not isinstance(error, Exception):
            raise
        raise _failure(target, error) from error
    return target


def _write_model_files(folder: Path, target: Path, write_model: Callable[[Path], None]) -> None:
    where = f"{target.name} was not written to {target.parent}: saving the model"
    try:
        write_model(folder)
    except CheckpointError:
        raise
    except Exception as error:
        if _system_error(error) and not isinstance(error, FileNotFoundError):
            raise  # the disk's fault, and reported as such
        raise CheckpointError(
            f"{where} failed with {type(error).__name__}: {error}. Earlier checkpoints are "
            "untouched. Correct how the model is saved, then save again."
        ) from error
    if not folder.is_dir():
        raise CheckpointError(f"{where} removed the folder it was to write into. Only add files.")
    taken = [name for name in sorted(_OWN) if (folder / name).exists()]
    if taken:
        raise CheckpointError(
            f"{where} wrote {', '.join(taken)} into the checkpoint, where stepbus keeps files of "
            "its own under these names. Save under other names."
        )


def _put_in_place(partial: Path, target: Path) -> None:
    replaced = aside(target, "replaced")
    discard(replaced)
    if target.exists():
        target.rename(replaced)
    try:
        partial.rename(target)
    except BaseException:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise
    sync(target.parent)
    discard(replaced)


def _check_arguments(step: int, documents: Mapping[str, str]) -> None:
    if type(step) is not int or step < 0:
        raise ArgumentError(f"step must be a whole number >= 0, got {step!r}.")
    for name in documents:
        if name in _RESERVED or not name or name.startswith(".") or Path(name).name != name:
            raise ArgumentError(
                f"A checkpoint's document cannot be called {name!r}: give a plain file name other "
                f"than {', '.join(sorted(_RESERVED))}."
            )


def _failure(target: Path, error: Exception) -> CheckpointError:
    reason = _system_error(error) or f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        free = f"{shutil.disk_usage(target.parent).free:,} bytes are free there"
    except OSError:
        free = "the folder cannot be reached"
    return CheckpointError(
        f"{target.name} was not written to {target.parent}: {reason}; {free}. Earlier "
        "checkpoints are untouched. Free some space or give another output_dir, then save again."
    )


def _system_error(error: BaseException | None) -> str | None:
    """The operating system's words for a failure, also where torch or safetensors wrapped it."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        if match := _RUST_ERRNO.search(str(error)):
            return os.strerror(int(match[1]))
        error = error.__cause__ or error.__context__
    return None
