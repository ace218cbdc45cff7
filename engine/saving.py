"""The checkpoints of a run: what goes in, when old ones go, and taking one up again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..bus import Lease
from ..bus.diagnostics import get_logger
from ..schemas import TrainerState, TrainingArguments
from ..schemas.errors import CheckpointError
from . import run_identity
from .checkpoint import (
    Checkpoint,
    checkpoint_folder,
    list_checkpoints,
    read_checkpoint,
    rotate,
    write_checkpoint,
)
from .front_end import FrontEnd

log = get_logger()

STATE = "trainer_state.json"
ARGUMENTS = "training_args.json"
RUN = run_identity.FILE
IN_TRANSIT = "the bus"
"""Holds a lease until those who want to read the checkpoint hold it themselves."""


class Saving:
    """Writes, rotates and reads the checkpoints of one run.

    Args:
        parts: what a checkpoint holds besides the weights, by name; asked for at each save.
        run_document: the text of the checkpoint's `run.json`.
        front_end: writes and reads the model.
    """

    def __init__(
        self,
        args: TrainingArguments,
        state: TrainerState,
        model: nn.Module,
        parts: Callable[[], Mapping[str, object]],
        run_document: Callable[[], str],
        front_end: FrontEnd,
    ) -> None:
        self._front_end = front_end
        self._args = args
        self._state = state
        self._parts = parts
        self._run_document = run_document
        self._leases: dict[Path, Lease] = {}
        self._newest: Path | None = None
        self.model = model
        self.last_save_s = 0.0

    @property
    def folder(self) -> Path:
        """Where the checkpoint of the present step goes."""
        return checkpoint_folder(self._args.output_dir, self._state.global_step)

    def write(self) -> tuple[dict[str, Any], Lease]:
        """Writes the checkpoint of the present step; the fields of its `Save` event, its lease.

        Raises:
            CheckpointError: it cannot be written; earlier ones are untouched.
        """
        started = time.perf_counter()
        folder, state = self.folder, self._state
        lease = self._leases.setdefault(folder, Lease())
        if state.best_global_step == state.global_step:
            state.best_model_checkpoint = str(folder)
        readers = [name for name in lease.holders if name != IN_TRANSIT]
        if readers:
            log.warning(
                f"{folder.name} is being read by {', '.join(readers)} and was not written again"
            )
        else:
            self._write()
        self.last_save_s = time.perf_counter() - started
        values = {
            "path": str(folder),
            "num_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
            "save_s": self.last_save_s,
            "best": state.best_model_checkpoint == str(folder),
        }
        return values, lease

    def _write(self) -> None:
        front_end = self._front_end
        front_end.about_to_save()
        self._state.stateful_callbacks = front_end.stateful_callbacks()
        writer = front_end.model_writer()
        documents = {
            STATE: self._state.to_json(),
            ARGUMENTS: self._args.to_json_string() + "\n",
            RUN: self._run_document(),
        }
        only_model = self._args.save_only_model
        self._newest = write_checkpoint(
            self._args.output_dir,
            self._state.global_step,
            states={}
            if only_model
            else {"model": front_end.model_state(self.model), **self._parts()},
            model=self.model if writer is None else None,
            write_model=writer,
            documents=documents,
        )

    @property
    def holds_step(self) -> bool:
        """Whether this run has written the checkpoint of the present step."""
        return self._newest == self.folder

    def note_best(self) -> None:
        """Notes that the present step is the best; a checkpoint of it may be there already."""
        if self.holds_step:
            self._state.best_model_checkpoint = str(self.folder)

    def rotate(self) -> None:
        """Deletes old checkpoints by `save_total_limit`; those still read wait for later.

        The best one and the one written last stay, though others there may have higher steps.
        """
        best = self._state.best_model_checkpoint
        done = rotate(
            self._args.output_dir,
            self._args.save_total_limit,
            protected=[kept for kept in (best, self._newest) if kept is not None],
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
        checkpoint = read_checkpoint(self._last() if wanted is True else wanted)
        if "run" not in checkpoint.states:
            raise CheckpointError(
                f"{checkpoint.folder} holds weights alone (save_only_model): it cannot be resumed. "
                "Load its weights and start a new run."
            )
        return checkpoint

    def _last(self) -> Path:
        """The last checkpoint of the run that was last at work in the output folder."""
        found = self.checkpoints()
        if not found:
            raise CheckpointError(
                f"resume_from_checkpoint=True, and {self._args.output_dir!r} holds no whole "
                "checkpoint: name one, or start without it."
            )
        last_run = run_identity.read(Path(self._args.output_dir))
        if last_run is None:
            return found[-1]
        own = [folder for folder in found if _run_of(folder) in (None, last_run.run_id)]
        if not own:
            raise CheckpointError(
                f"resume_from_checkpoint=True, and the last run in {self._args.output_dir!r} has "
                f"no checkpoint; {found[-1].name} is of an earlier run. Name it to continue that "
                "run, or start without it."
            )
        return own[-1]

    def load_best(self) -> None:
        """Puts the weights of the best checkpoint into the model.

        Raises:
            CheckpointError: that checkpoint is damaged.
        """
        best = self._state.best_model_checkpoint
        if best is None:
            log.warning("load_best_model_at_end: no checkpoint of the best step was written")
            return
        self._front_end.load_model(read_checkpoint(best), self.model)

    def checkpoints(self) -> list[Path]:
        """The whole checkpoints in the output folder, oldest first."""
        return list_checkpoints(self._args.output_dir)

    @staticmethod
    def run_document_of(checkpoint: Checkpoint | None) -> str | None:
        """The text of a checkpoint's `run.json`; None where there is none."""
        if checkpoint is None or RUN not in checkpoint.documents:
            return None
        return checkpoint.document(RUN)


def _run_of(checkpoint: Path) -> str | None:
    identity = run_identity.read(checkpoint)
    return identity.run_id if identity is not None else None
