"""Tasks of Flyte that train, for a process of their own: flytekit sets signal handlers and hooks.

`python -m tests.subscribers.trackers.flyte_task FOLDER` leaves what they logged in `told.json`.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from flytekit import current_context, task
from flytekit.core.checkpointer import SyncCheckpoint

from stepbus import ArgumentError, FlyteCallback
from tests.subscribers.trackers.conftest import Trained

FOLDER = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
SAVES = {"save_strategy": "steps", "save_steps": 3}
told: dict[str, Any] = {}


def facts(trained: Trained) -> dict[str, Any]:
    rows = [[step, dict(logs)] for step, logs in trained.rows.logged]
    files = trained.checkpoints.files
    return {
        "rows": rows,
        "params": json.loads(json.dumps(trained.params)),
        "where": trained.trainer.tracker("flyte"),
        "files": {step: {k: v.hex() for k, v in kept.items()} for step, kept in files.items()},
    }


def train_and_evaluate() -> str:
    trained = Trained(FlyteCallback(), FOLDER / "first", SAVES)
    trainer = trained.trainer
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    trained.assert_nothing_failed()
    told["first"] = facts(trained)
    return str(current_context().checkpoint._checkpoint_dest)


def go_on(saved: str) -> int:
    # What Flyte does for a task that it tries again.
    context: Any = current_context()
    context._checkpoint = SyncCheckpoint(str(FOLDER / "checkpoints"), saved)
    previous = context.checkpoint.restore()
    trained = Trained(FlyteCallback(), FOLDER / "second", {"max_steps": 9})
    trained.trainer.train(resume_from_checkpoint=str(previous))
    told["second"] = facts(trained)
    # Two trainings in one task, by name.
    third = Trained(FlyteCallback(sync_checkpoints=False), FOLDER / "third", {"run_name": "third"})
    third.trainer.train()
    told["third"] = facts(third)
    return int(trained.trainer.state.global_step)


def without_decks() -> None:
    trained = Trained(FlyteCallback(save_log_history=False), FOLDER / "fourth", {})
    told["no decks"] = len(current_context().decks)
    trained.trainer.train()
    told["still no decks"] = len(current_context().decks)


if __name__ == "__main__":
    logging.getLogger("flytekit").setLevel(logging.ERROR)
    saved = task(enable_deck=True)(train_and_evaluate)()
    told["steps"] = task(enable_deck=True)(go_on)(saved=saved)
    task(without_decks)()
    outside = Trained(FlyteCallback(), FOLDER / "fifth", {})
    try:
        outside.trainer.train()
    except ArgumentError as error:
        told["outside"] = str(error)
    (FOLDER / "told.json").write_text(json.dumps(told))
