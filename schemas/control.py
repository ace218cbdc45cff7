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
_IN_FILES = tuple(reversed(FLAG_OF.values()))


class TrainerControl:
    """What the engine does next, as callbacks of Hugging Face's shape see and set it.

    | flag | the engine will |
    |---|---|
    | `should_training_stop` | leave the loop after this step |
    | `should_epoch_stop` | leave this epoch after this step |
    | `should_save` | write a checkpoint |
    | `should_evaluate` | evaluate |
    | `should_log` | log |

    Callbacks share one control in their order, the last writer wins, and what stands at a merge
    point becomes votes in the name of who set it. A flag stays visible until the event that answers
    it, as in the reference: `log`, `evaluate` and `save` reset their own, `step_begin` those three,
    `epoch_begin` and `train_begin` the stops. That takes no vote back; clearing a flag in a
    callback does. `votes` are those behind the flags.
    """

    __slots__ = (*FLAG_OF.values(), "_again", "_cast", "_setters", "touched", "votes")

    should_training_stop: bool
    should_epoch_stop: bool
    should_save: bool
    should_evaluate: bool
    should_log: bool
    votes: tuple[Vote, ...]
    touched: bool
    """False where nothing can stand: no flag has been set since `is_settled` was last true."""

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
        self.touched = False
        self._setters: dict[Action, str] = {}
        self._cast: dict[Action, str] = {}
        self._again: dict[Action, str] = {}
        self.should_training_stop = should_training_stop
        self.should_epoch_stop = should_epoch_stop
        self.should_save = should_save
        self.should_evaluate = should_evaluate
        self.should_log = should_log
        self.votes = votes

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if value and name in ACTION_OF:
            object.__setattr__(self, "touched", True)
        # Who asks for what others have asked for already is on record as well.
        # A copy is filled in an order of its own.
        if value and ACTION_OF.get(name) in getattr(self, "_cast", ()):
            self._again.setdefault(ACTION_OF[name], "")

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
        """Notes that `setter` changed what differs from `before`, or asked for it again."""
        for action, was, now in zip(ACTIONS, before, self.flags, strict=True):
            if now and not was:
                self._setters[action] = setter
            elif was and not now:
                self._setters.pop(action, None)
            elif self._again.get(action) == "":
                self._again[action] = setter

    def adopt(self, other: Any) -> None:
        """Takes over the flags of a control that a callback returned."""
        for flag in FLAG_OF.values():
            value = bool(getattr(other, flag))
            if value != getattr(self, flag):
                setattr(self, flag, value)

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to turn into votes or to take back."""
        if self.touched and not (
            self.should_log
            or self.should_evaluate
            or self.should_save
            or self.should_training_stop
            or self.should_epoch_stop
            or self._cast
        ):
            object.__setattr__(self, "touched", False)
        return not self.touched

    @property
    def asked_again(self) -> bool:
        """Whether a flag that was cast already has been set once more."""
        return bool(self._again)

    def standing(self) -> Iterator[tuple[Action, str]]:
        """Each flag that is set and not cast yet, or set once more: its action and who set it."""
        for action, flag in zip(ACTIONS, self.flags, strict=True):
            if flag and action not in self._cast:
                yield action, self._setters.get(action, "")
            elif flag and action in self._again:
                yield action, self._again[action]

    def taken_back(self) -> list[tuple[Action, str]]:
        """Actions whose flags were cleared after they were cast, and in whose name they were."""
        cleared = [action for action in self._cast if not getattr(self, FLAG_OF[action])]
        return [(action, self._cast.pop(action)) for action in cleared]

    def mark_cast(self, action: Action, setter: str) -> None:
        """Notes that a flag has become a vote of `setter`; it stays visible."""
        object.__setattr__(self, "touched", True)
        self._cast[action] = setter
        self._again.pop(action, None)

    def show(self, action: Action) -> None:
        """Sets the flag of an action that was decided on; it makes no vote."""
        object.__setattr__(self, FLAG_OF[action], True)
        object.__setattr__(self, "touched", True)
        self._cast.setdefault(action, "")

    def reset(self, action: Action) -> None:
        """Clears a flag without taking its vote back."""
        object.__setattr__(self, FLAG_OF[action], False)
        for notes in (self._setters, self._cast, self._again):
            notes.pop(action, None)

    def state(self) -> dict[str, Any]:
        """The flags in the form in which `trainer_state.json` keeps stateful callbacks."""
        return {"args": {flag: getattr(self, flag) for flag in _IN_FILES}, "attributes": {}}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainerControl) and self.flags == other.flags

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        flags = ", ".join(f"{flag}={getattr(self, flag)}" for flag in FLAG_OF.values())
        return f"TrainerControl({flags})"
