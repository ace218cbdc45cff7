"""Reads a checkpoint back, after every one of its files was checked against the manifest."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ...schemas.errors import ArgumentError, CheckpointError
from .joining import join
from .layout import TENSORS, VALUES, WEIGHTS
from .manifest import MANIFEST, Manifest, verify
from .model_files import holds_weights, load_model_files
from .tensors import read_tensors

_FOREIGN = """
    optimizer.pt optimizer.bin scheduler.pt scaler.pt rng_state.pth rng_state_0.pth
    training_args.bin pytorch_model.bin
""".split()


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint; weights and documents are read when they are asked for."""

    folder: Path
    step: int
    states: dict[str, Any] = field(repr=False)
    """The states by the name they were written under, with all tensors on the CPU."""
    manifest: Manifest = field(repr=False)

    @property
    def documents(self) -> tuple[str, ...]:
        """The names of its documents."""
        if self.manifest.documents is not None:
            return self.manifest.documents
        own = (WEIGHTS, VALUES)
        return tuple(name for name in self.manifest.files if "/" not in name and name not in own)

    @property
    def has_weights(self) -> bool:
        """Whether it holds a model's weights, whole or as adapters, in files that are read here."""
        return holds_weights(self.manifest.files)

    def document(self, name: str) -> str:
        """The text of a document.

        Raises:
            ArgumentError: the checkpoint has none of that name.
            CheckpointError: it was altered since the checkpoint was verified.
        """
        if name not in self.documents:
            known = ", ".join(self.documents) or "none"
            raise ArgumentError(f"{self.folder} has no document {name!r}; it has: {known}.")
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise CheckpointError(
                f"{self.folder / name} cannot be read: {error.strerror}."
            ) from error
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name].sha256:
            raise CheckpointError(f"{self.folder / name} was altered while it was in use.")
        return content.decode("utf-8")

    def load_weights(self, model: nn.Module) -> None:
        """Puts the weights into `model`, in place and on its devices.

        Raises:
            CheckpointError: it has none, or they are of another model; `model` is unchanged.
        """
        if not self.has_weights:
            raise CheckpointError(
                f"{self.folder} was written without a model's weights, or in files that stepbus "
                "does not read."
            )
        load_model_files(self.folder, model)


def read_checkpoint(folder: str | os.PathLike[str]) -> Checkpoint:
    """Verifies all files of a checkpoint, then reads its states.

    Raises:
        CheckpointError: it is missing, not whole, altered, or not written by stepbus.
    """
    path = Path(folder)
    if not path.is_dir():
        raise CheckpointError(f"There is no checkpoint folder {str(path)!r}.")
    _refuse_foreign(path)
    manifest = verify(path)
    for name in (VALUES, f"{TENSORS}/.metadata"):
        if name not in manifest.files:
            raise CheckpointError(f"{path} is not a checkpoint of a run: it has no {name}.")
    try:
        document = json.loads((path / VALUES).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path / VALUES} cannot be read: {error}.") from error
    states = join(document, read_tensors(path / TENSORS))
    if not isinstance(states, dict):
        raise CheckpointError(f"{path / VALUES} holds no states by name.")
    return Checkpoint(path, manifest.step, states, manifest)


def _refuse_foreign(folder: Path) -> None:
    if (folder / MANIFEST).exists():
        return
    if any((folder / name).exists() for name in _FOREIGN):
        raise CheckpointError(
            f"{folder} was written by Hugging Face's Trainer, not by stepbus. Load its weights "
            f"with the model's from_pretrained({str(folder)!r}) or with "
            f"stepbus.engine.checkpoint.load_model_files({str(folder)!r}, model), its state with "
            f"TrainerState.load_from_json({str(folder / 'trainer_state.json')!r}), and start a new "
            "run. Resuming its optimizer, schedule and random numbers is not supported: "
            "optimizer.pt, scheduler.pt and rng_state.pth are pickles, which stepbus never reads."
        )
