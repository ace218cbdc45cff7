"""How a Lightning trainer does what was voted for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from ...bus.control_channel import Outcome
from ...schemas import Action
from ..rng import preserved_rng
from ..rounds import Act, Unavailable
from .bridged_run import BridgedRun

KEPT = "vote"
"""What the files begin with that were voted for; Lightning's rotation leaves them alone."""


class LightningMeans:
    """Asks one trainer, in one run, by the settings that it looks at itself.

    Logging and validation are done where Lightning does them, after the step: for that one step it
    is told that they are due.
    """

    def __init__(self, trainer: Any, *, logs: bool) -> None:
        self.run: BridgedRun
        self._trainer = trainer
        self._logs = logs
        self._settings: dict[str, Any] = {}
        self._generators = contextlib.ExitStack()

    @property
    def actions(self) -> dict[Action, Act]:
        """What to call for each action."""
        return {
            "log": self._log,
            "evaluate": self._evaluate,
            "save": self._save,
            "stop_epoch": self._stop_epoch,
            "stop": self._stop,
        }

    def settle(self) -> None:
        """The step is over, and all that was asked for at it: what has not come will not come."""
        self.leave()
        asked = self.run.asked
        asked.refuse("log", "the module logged nothing at this step")
        asked.refuse("evaluate", "Lightning did not validate after this step")

    def leave(self) -> None:
        """Puts back what was changed for one step."""
        self._reset()
        self._generators.close()

    def validating(self) -> None:
        """A validation has begun."""
        self._reset()

    def validated(self, told: str) -> None:
        """It is over."""
        self._generators.close()
        self.run.asked.done("evaluate", told)

    def _reset(self) -> None:
        while self._settings:
            setattr(self._trainer, *self._settings.popitem())

    def _set(self, name: str, value: Any) -> None:
        self._settings.setdefault(name, getattr(self._trainer, name))
        setattr(self._trainer, name, value)

    def _log(self, outcome: Outcome) -> None:
        if not self._logs:
            raise Unavailable("the Trainer was not given logger=bridge.logger")
        self._set("log_every_n_steps", 1)
        self.run.asked.note(outcome)

    def _evaluate(self, outcome: Outcome) -> None:
        trainer = self._trainer
        if not trainer.enable_validation:
            raise Unavailable(
                "the Trainer has no data to validate on, or its module no step for it"
            )
        loop = trainer.fit_loop
        if not loop.epoch_loop._should_check_val_fx(loop._data_fetcher):
            # What the schedule would not have done leaves no trace in the data's order.
            self._generators.enter_context(preserved_rng())
            self._set("val_check_batch", 1)
            if trainer.check_val_every_n_epoch is not None:
                self._set("check_val_every_n_epoch", 1)
            if getattr(trainer, "_val_check_time_interval", None) is not None:
                self._set("_val_check_time_interval", None)
        self.run.asked.note(outcome)

    def _save(self, outcome: Outcome) -> str:
        trainer = self._trainer
        kept = trainer.checkpoint_callback
        values = {
            "epoch": torch.tensor(trainer.current_epoch),
            "step": torch.tensor(trainer.global_step),
        }
        if hasattr(kept, "format_checkpoint_name"):
            metrics = dict(trainer.callback_metrics) | values
            path = str(kept.format_checkpoint_name(metrics, prefix=KEPT))
            trainer.save_checkpoint(path, kept.save_weights_only)
            return path
        name = f"{KEPT}-epoch={trainer.current_epoch}-step={trainer.global_step}.ckpt"
        folder = self.run.output_dir or Path(trainer.default_root_dir)
        path = str(folder / "checkpoints" / name)
        trainer.save_checkpoint(path)
        return path

    def _stop_epoch(self, outcome: Outcome) -> str:
        raise Unavailable("Lightning leaves an epoch for its module alone, on_train_batch_start")

    def _stop(self, outcome: Outcome) -> str | None:
        trainer = self._trainer
        trainer.should_stop = True
        if trainer.min_steps and trainer.global_step < trainer.min_steps:
            return f"leaves the loop once min_steps={trainer.min_steps} are done"
        if trainer.min_epochs and trainer.current_epoch < trainer.min_epochs:
            return f"leaves the loop once min_epochs={trainer.min_epochs} are done"
        return None
