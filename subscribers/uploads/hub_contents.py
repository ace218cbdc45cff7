"""What of a run goes to the Hub: a model at the top, checkpoints in folders of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .contents import is_state, step_of
from .hub_repository import Content
from .interruption import LocalFileError
from .marker import MARKS

OF_THE_RUN = frozenset({"run.json", "trainer_state.json"})
"""What a checkpoint holds besides the model and the states."""
LEFT_OUT = frozenset(
    """
    artifacts clearml comet dvclive ledger.json mlartifacts mlflow.db mlruns run.json swanlog
    trackers trackio votes wandb
    """.split()
)
"""What stepbus and the trackers keep in an output folder for themselves."""
MOST_BYTES = 32 * 2**20
"""Files of an output folder that are larger are only pushed when the training is over: they may be
written to meanwhile."""


def files_of(folder: Path) -> dict[str, Path]:
    """All files of a checkpoint, by relative path.

    Raises:
        LocalFileError: it is gone.
    """
    found = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in MARKS
    }
    if not found:
        raise LocalFileError(f"{folder} is empty, or gone")
    return found


def model_files_of(folder: Path) -> dict[str, Path]:
    """The files of a checkpoint that a model is loaded from, by relative path.

    Raises:
        LocalFileError: it is gone.
    """
    return {
        name: path
        for name, path in files_of(folder).items()
        if name not in OF_THE_RUN and not is_state(name)
    }


def beside_checkpoints(output_dir: Path) -> dict[str, Path]:
    """The files of an output folder that are pushed, by relative path.

    As in the reference all but checkpoints and what begins with `_`; besides, nothing hidden,
    and nothing that stepbus or a tracker keeps there for itself.
    """
    found: dict[str, Path] = {}
    for path in sorted(output_dir.iterdir()):
        name = path.name
        if name in LEFT_OUT or name[0] in "._" or name.startswith("checkpoint-"):
            continue
        if path.is_file():
            found[name] = path
            continue
        for inner in sorted(path.rglob("*")):
            parts = inner.relative_to(output_dir).parts
            if inner.is_file() and not any(part.startswith(".") for part in parts):
                found["/".join(parts)] = inner
    return found


def small_ones(files: dict[str, Path]) -> dict[str, Content]:
    """Their contents as they are now, whoever writes to them; without those that are large."""
    found: dict[str, Content] = {}
    for name, path in files.items():
        try:
            if path.stat().st_size <= MOST_BYTES:
                found[name] = path.read_bytes()
        except OSError:
            continue  # A temporary file of somebody's.
    return found


def commit_message(folder: Path) -> str:
    """What the reference calls the commit of a checkpoint."""
    state = _read(folder / "trainer_state.json")
    by_steps = _read(folder / "training_args.json").get("save_strategy", "steps") == "steps"
    if not by_steps and isinstance(state.get("epoch"), int | float):
        return f"Training in progress, epoch {int(state['epoch'])}"
    return f"Training in progress, step {step_of(folder.name)}"


def best_of(folder: Path) -> str:
    """The name of the best checkpoint when this one was written; empty where there was none."""
    return Path(str(_read(folder / "trainer_state.json").get("best_model_checkpoint") or "")).name


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
