"""The state and the arguments of transformers' Trainer, in stepbus's words."""

from __future__ import annotations

from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

from ...schemas import TrainerState
from ...schemas.argument_writing import frozen_arguments
from ...schemas.values import FrozenDict
from .. import run_identity
from ..environment import num_parameters
from ..run_identity import RunIdentity

MIRRORED = (
    "max_steps",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "train_batch_size",
    "num_train_epochs",
    "num_input_tokens_seen",
    "total_flos",
    "best_metric",
    "best_global_step",
    "best_model_checkpoint",
    "is_local_process_zero",
    "is_world_process_zero",
    "is_hyper_param_search",
    "trial_name",
    "trial_params",
)
"""Fields that change rarely; step and epoch are noted at every hook, the history at every log."""
_of_theirs, _of_ours = attrgetter(*MIRRORED), itemgetter(*MIRRORED)


def mirror(theirs: Any, ours: TrainerState, *, new_rows: int = 0) -> None:
    """Assigns what has changed of the state, and the history where it was changed by others.

    Args:
        theirs: the Trainer's.
        ours: the run's.
        new_rows: rows of their history that are still to be taken over by a log.
    """
    own = ours.__dict__
    values = _of_theirs(theirs)
    if values != _of_ours(own):
        for name, value in zip(MIRRORED, values, strict=True):
            if value is not own[name] and value != own[name]:
                setattr(ours, name, value)
    if len(theirs.log_history) != len(own["log_history"]) + new_rows:
        rows = theirs.log_history[: len(theirs.log_history) - new_rows]
        ours.log_history = [dict(row) for row in rows]


def arguments_of(args: Any) -> FrozenDict[str, Any]:
    """Their arguments as `train_begin` carries them: read-only, secrets masked."""
    return frozen_arguments(args.to_dict())


def beginning(args: Any, state: Any, model: Any, loader: Any) -> dict[str, Any]:
    """The fields of `train_begin`."""
    steps_per_epoch = -(-(length_of(loader) or 0) // args.gradient_accumulation_steps)
    return {
        "arguments": arguments_of(args),
        "model": type(model).__name__,
        "num_parameters": num_parameters(model) if hasattr(model, "parameters") else 0,
        "max_steps": state.max_steps,
        "num_train_epochs": float(state.num_train_epochs),
        "steps_per_epoch": steps_per_epoch,
    }


def length_of(loader: Any) -> int | None:
    """Batches of a loader; None for one without a length."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def checkpoint_of(args: Any, state: Any) -> Path | None:
    """The folder of the checkpoint of this step; None where it is not there."""
    name = f"checkpoint-{state.global_step}"
    folder = Path(args.output_dir) / name
    if folder.is_dir():
        return folder
    # A search for hyper-parameters has a folder for each trial.
    found = sorted(Path(args.output_dir).glob(f"run-*/{name}"), key=lambda f: f.stat().st_mtime)
    return found[-1] if found and state.is_hyper_param_search else None


def resumed_identity(output_dir: Path, checkpoint: Path) -> RunIdentity:
    """The next attempt of the run that wrote a checkpoint; a new run where it is not known."""
    try:
        document = (checkpoint / run_identity.FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        document = None
    return run_identity.identify(output_dir, document)


def saved(args: Any, state: Any, save_s: float) -> dict[str, Any]:
    """The fields of `save`."""
    folder = checkpoint_of(args, state)
    files = folder.rglob("*") if folder is not None else ()
    return {
        "path": str(folder or ""),
        "num_bytes": sum(file.stat().st_size for file in files if file.is_file()),
        "save_s": save_s,
        "best": state.best_global_step == state.global_step,
    }
