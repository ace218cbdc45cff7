"""What the control of transformers' Trainer is asked for by votes."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ...bus.control_channel import Outcome
from ...schemas import Action
from ...schemas.control import FLAG_OF
from ..metric_buffer import number_of
from ..rounds import ACTED_ON, Act, Unavailable
from .bridged_run import BridgedRun


class TheirControl:
    """Sets the flags of their control; to be inherited by a bridge."""

    control: Any
    """Theirs, which they may replace at any hook."""
    _run: BridgedRun | None
    _trainer: weakref.ref[Any] | None

    @property
    def actions(self) -> Mapping[Action, Act]:
        """What to call for each action."""
        return {
            "log": self._ask,
            "evaluate": self._ask_for_evaluation,
            "save": self._ask,
            "stop_epoch": self._ask_to_leave,
            "stop": self._ask_to_leave,
        }

    def _ask(self, outcome: Outcome) -> None:
        setattr(self.control, FLAG_OF[outcome.action], True)
        self._noted(outcome)

    def _ask_for_evaluation(self, outcome: Outcome) -> None:
        trainer = self._trainer() if self._trainer is not None else None
        if not outcome.scheduled and trainer is not None and not _evaluates(trainer):
            raise Unavailable("the Trainer was given no eval_dataset")
        self._ask(outcome)

    def _noted(self, outcome: Outcome) -> None:
        assert self._run is not None
        self._run.asked.note(outcome)

    def _ask_to_leave(self, outcome: Outcome) -> None:
        setattr(self.control, FLAG_OF[outcome.action], True)

    def _clear(self, action: Action) -> None:
        if action in ACTED_ON:
            setattr(self.control, FLAG_OF[action], False)

    def _scheduled(self) -> Iterable[Action]:
        """What the flags say that others have set: a veto clears it."""
        return [action for action in ACTED_ON if getattr(self.control, FLAG_OF[action])]

    def number(self, value: Any) -> float | None:
        """A learning rate as a number; None for one on a device, which is not waited for."""
        if isinstance(value, Tensor):
            return float(number_of(value)) if value.is_cpu else None
        return float(value)

    def told(self, state: Any, metrics: Any) -> str:
        """What an evaluation came to, for its verdict."""
        figures = {k: v for k, v in (metrics or {}).items() if k != "epoch"}
        shown = (f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items())
        return f"evaluated at step {state.global_step}: {', '.join(shown)}"


def _evaluates(trainer: Any) -> bool:
    """Whether an evaluation has data: a dataset, or a loader of the subclass's own."""
    from transformers import Trainer

    if getattr(trainer, "eval_dataset", None) is not None:
        return True
    own = getattr(type(trainer), "get_eval_dataloader", None)
    return own is not Trainer.get_eval_dataloader
