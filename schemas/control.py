"""The five flags of a run, and the votes behind them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .vote import ACTIONS, Action, Vote

FLAG_OF: dict[Action, str] = {
    "log": "should_log",
    "evaluate": "should_evaluate",
    "save": "should_save",
    "stop_epoch": "should_epoch_stop",
    "stop": "should_training_stop",
}
ACTION_OF: dict[str, Action] = {flag: action for action, flag in FLAG_OF.items()}


class TrainerControl:
    """What the engine does next, as callbacks of Hugging Face's shape see and set it.

    | flag | the engine will |
    |---|---|
    | `should_training_stop` | leave the loop after this step |
    | `should_epoch_stop` | leave this epoch after this step |
    | `should_save` | write a checkpoint |
    | `should_evaluate` | evaluate |
    | `should_log` | log |

    A flag is reset when it was acted on, never because of where it was set. `votes` are those
    behind the flags; a verdict has its own. Callbacks share one control in their order, the
    last writer wins, and what stands at the end becomes votes in the name of who set it.
    """

    __slots__ = (*FLAG_OF.values(), "_setters", "votes")

    should_training_stop: bool
    should_epoch_stop: bool
    should_save: bool
    should_evaluate: bool
    should_log: bool
    votes: tuple[Vote, ...]

    def __init__(
        self,
        should_training_stop: bool = False,
        should_epoch_stop: bool = False,
        should_save: bool = False,
        should_evaluate: bool = False,
        should_log: bool = False,
        *,
        votes: tuple[Vote, ...] = (),
    ) -> None:
        self.should_training_stop = should_training_stop
        self.should_epoch_stop = should_epoch_stop
        self.should_save = should_save
        self.should_evaluate = should_evaluate
        self.should_log = should_log
        self.votes = votes
        self._setters: dict[Action, str] = {}

    @property
    def flags(self) -> tuple[bool, bool, bool, bool, bool]:
        """The flags in the order of `ACTIONS`: log, evaluate, save, epoch stop, training stop."""
        return (
            self.should_log,
            self.should_evaluate,
            self.should_save,
            self.should_epoch_stop,
            self.should_training_stop,
        )

    def credit(self, setter: str, before: tuple[bool, ...]) -> None:
        """Notes that `setter` changed what differs from `before`."""
        for action, was, now in zip(ACTIONS, before, self.flags, strict=True):
            if now and not was:
                self._setters[action] = setter
            elif was and not now:
                self._setters.pop(action, None)

    def adopt(self, other: Any) -> None:
        """Takes over the flags of a control that a callback returned."""
        for flag in FLAG_OF.values():
            setattr(self, flag, bool(getattr(other, flag)))

    def standing(self) -> Iterator[tuple[Action, str]]:
        """Each flag that is set, as its action and who set it."""
        for action, flag in zip(ACTIONS, self.flags, strict=True):
            if flag:
                yield action, self._setters.get(action, "")

    def clear(self, action: Action) -> None:
        """Resets the flag of an action that was acted on."""
        setattr(self, FLAG_OF[action], False)
        self._setters.pop(action, None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainerControl) and self.flags == other.flags

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        flags = ", ".join(f"{flag}={getattr(self, flag)}" for flag in FLAG_OF.values())
        return f"TrainerControl({flags})"
