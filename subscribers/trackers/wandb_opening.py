"""How a run of wandb is opened: online, and where that cannot be, in offline files."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...bus.sidecar.trainer import trainer_pid
from .experiment_run import ExperimentRun
from .wandb_file import FLUSH_S
from .wandb_runs import RUNS
from .wandb_settings import OFFLINE

PROJECT = "huggingface"
"""Where neither the caller nor WANDB_PROJECT names one, as in the reference."""
INIT_TIMEOUT_S = 20.0
"""For wandb's server to answer; after that the run goes on in offline files."""
FLUSHES = "x_transaction_log_flush_interval"
"""The setting of wandb for the time between two writes; an older one has none, and writes when its
buffer is full."""


class WandbOpening:
    """Opens runs as a callback was told.

    Args:
        arguments: the callback's, by name.
        say_once: says a line, once.
    """

    def __init__(self, arguments: Mapping[str, Any], say_once: Callable[[str], None]) -> None:
        self._arguments = arguments
        self._say_once = say_once

    def open(self, run: ExperimentRun) -> Any:
        """Opens it: the run of that id, if wandb has it.

        Raises:
            Exception: wandb's own, where it refuses.
        """
        import wandb

        given = self._arguments
        environ = os.environ
        folder = given["dir"] or environ.get("WANDB_DIR") or str(run.output_dir)
        Path(folder).mkdir(parents=True, exist_ok=True)
        chosen: dict[str, Any] = {
            "project": given["project"] or environ.get("WANDB_PROJECT") or PROJECT,
            "entity": given["entity"],
            "name": given["name"] or run.name,
            "group": given["group"] or run.group,
            "tags": given["tags"],
            "dir": folder,
            "id": environ.get("WANDB_RUN_ID") or run.run_id or None,
        }
        mode: Any = given["mode"] or wandb.setup().settings.mode
        settings: dict[str, Any] = {}
        if "WANDB_INIT_TIMEOUT" not in environ:
            settings["init_timeout"] = INIT_TIMEOUT_S
        trainer = trainer_pid()
        if FLUSHES in wandb.Settings.model_fields:
            settings[FLUSHES] = FLUSH_S
        if trainer is not None:
            # Its process prints nothing that anybody wants to keep, and its figures are not those
            # of the training.
            environ.setdefault("WANDB_DATA_DIR", str(Path(folder).absolute() / "wandb" / "data"))
            settings |= {"console": "off", "silent": True, "x_stats_pid": trainer}
        chosen["settings"] = wandb.Settings(**settings)
        chosen = {name: value for name, value in chosen.items() if value is not None}
        if mode in OFFLINE:
            return self._init(chosen, "offline")
        resume = {} if "WANDB_RESUME" in environ else {"resume": "allow"}
        try:
            return self._init({**chosen, **resume}, mode)
        except wandb.errors.CommError as error:
            if not RUNS.restart_service():
                raise
            self._say_once(
                f"wandb cannot be reached ({error}): the run goes on in offline files, which "
                "`wandb sync` sends."
            )
            return self._init(chosen, "offline")

    def _init(self, chosen: dict[str, Any], mode: Any) -> Any:
        import wandb

        if mode in OFFLINE:
            self._wait_for_another_second(Path(chosen["dir"]) / "wandb", chosen.get("id"))
        hook = sys.excepthook
        try:
            return wandb.init(**chosen, mode=mode, reinit="create_new")
        finally:
            sys.excepthook = hook

    def _wait_for_another_second(self, folder: Path, run_id: str | None) -> None:
        """wandb names the folder of an offline run by the second, and would write over another."""
        earlier = sorted(folder.glob(f"offline-run-*-{run_id}")) if run_id else []
        if not earlier:
            return
        self._say_once(
            f"wandb: the offline files of run {run_id} cannot be continued, so it goes on in a "
            f"further folder; `wandb sync {folder}/offline-run-*-{run_id}` puts them together."
        )
        while f"offline-run-{time.strftime('%Y%m%d_%H%M%S')}-{run_id}" in (p.name for p in earlier):
            time.sleep(0.05)
