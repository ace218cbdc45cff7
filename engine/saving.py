"""The checkpoints of a run: what goes in, when old ones go, and taking one up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from ..bus import Lease
from ..bus.diagnostics import get_logger
from ..schemas import TrainerState, TrainingArguments
from ..schemas.errors import CheckpointError
from .checkpoint import (
    Checkpoint,
    checkpoint_folder,
    get_last_checkpoint,
    list_checkpoints,
    read_checkpoint,
    rotate,
    write_checkpoint,
)

log = get_logger()

STATE = "trainer_state.json"
ARGUMENTS = "training_args.json"
RUN = "run.json"


class Stateful(Protocol):
    """Anything that a checkpoint can keep."""

    def state_dict(self) -> Any:
        """Its state, in tensors and plain values."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Takes back what `state_dict` gave."""


class Saving:
    """Writes, rotates and reads the checkpoints of one run.

    Args:
        parts: what a checkpoint holds besides the weights, by name; asked for at each save.
        run_document: the text of the checkpoint's `run.json`.
    """

    def __init__(
        self,
        args: TrainingArguments,
        state: TrainerState,
        model: nn.Module,
        parts: Callable[[], Mapping[str, object]],
        run_document: Callable[[], str],
    ) -> None:
        self._args = args
        self._state = state
        self._model = model
        self._parts = parts
        self._run_document = run_document
        self._leases: dict[Path, Lease] = {}
        self.last_save_s = 0.0

    @property
    def folder(self) -> Path:
        """Where the checkpoint of the present step goes."""
        return checkpoint_folder(self._args.output_dir, self._state.global_step)

    def lease_of(self, folder: Path) -> Lease:
        """The lease of a checkpoint folder."""
        return self._leases.setdefault(folder, Lease())

    def write(self) -> dict[str, Any]:
        """Writes the checkpoint of the present step; the fields of its `Save` event.

        Raises:
            CheckpointError: it cannot be written; earlier ones are untouched.
        """
        started = time.perf_counter()
        folder = self.folder
        if folder.exists() and self.lease_of(folder).holders:
            holders = ", ".join(self.lease_of(folder).holders)
            log.warning(f"{folder.name} is being read by {holders} and was not written again")
        else:
            self._write(folder)
        self.last_save_s = time.perf_counter() - started
        return {
            "path": str(folder),
            "num_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            "save_s": self.last_save_s,
            "best": self._state.best_model_checkpoint == str(folder),
        }

    def _write(self, folder: Path) -> None:
        state = self._state
        if state.best_global_step == state.global_step:
            state.best_model_checkpoint = str(folder)
        documents = {
            STATE: state.to_json(),
            ARGUMENTS: self._args.to_json_string() + "\n",
            RUN: self._run_document(),
        }
        only_model = self._args.save_only_model
        write_checkpoint(
            self._args.output_dir,
            state.global_step,
            states={} if only_model else {"model": self._model.state_dict(), **self._parts()},
            model=self._model,
            documents=documents,
        )

    def rotate(self) -> None:
        """Deletes old checkpoints by `save_total_limit`; those still read wait for later."""
        best = self._state.best_model_checkpoint
        done = rotate(
            self._args.output_dir,
            self._args.save_total_limit,
            protected=[best] if best else [],
            leased=lambda folder: bool(self._leases.get(folder) and self._leases[folder].holders),
        )
        for folder in done.deleted:
            self._leases.pop(folder, None)
        for folder, error in done.failed:
            log.warning(f"{folder} could not be deleted ({error}); the next rotation tries again")

    def open_checkpoint(self, wanted: str | bool | None) -> Checkpoint | None:
        """The checkpoint to resume from, verified; None to start anew.

        Raises:
            CheckpointError: there is none where one was named, or it is not whole.
        """
        if not wanted:
            return None
        if wanted is True:
            found = get_last_checkpoint(self._args.output_dir)
            if found is None:
                raise CheckpointError(
                    f"resume_from_checkpoint=True, and {self._args.output_dir!r} holds no whole "
                    "checkpoint: name one, or start without it."
                )
            return self._read(found)
        return self._read(str(wanted))

    def _read(self, folder: str) -> Checkpoint:
        checkpoint = read_checkpoint(folder)
        if "optimizer" not in checkpoint.states and "run" not in checkpoint.states:
            raise CheckpointError(
                f"{folder} holds weights alone (save_only_model): it cannot be resumed. Load its "
                "weights and start a new run."
            )
        return checkpoint

    def load_best(self) -> str | None:
        """Puts the weights of the best checkpoint into the model; its folder, or None."""
        best = self._state.best_model_checkpoint
        if best is None:
            log.warning("load_best_model_at_end: no checkpoint of the best step was written")
            return None
        read_checkpoint(best).load_weights(self._model)
        return best

    def checkpoints(self) -> list[Path]:
        """The whole checkpoints in the output folder, oldest first."""
        return list_checkpoints(self._args.output_dir)


def load_part(name: str, target: Stateful, saved: Mapping[str, Any], source: Path) -> None:
    """Gives one part of a checkpoint back to its owner.

    Raises:
        CheckpointError: the checkpoint has no such part, or the owner does not take it.
    """
    if name not in saved:
        raise CheckpointError(
            f"{source} holds no state of {name!r}: it is of a run without one. Attach what the "
            "checkpoint holds, or start a new run."
        )
    try:
        target.load_state_dict(saved[name])
    except Exception as error:
        raise CheckpointError(
            f"The state of {name!r} in {source} does not fit {type(target).__name__}: {error}. This is "
            "a checkpoint of another model or optimizer."
        ) from error
