"""What a foreign trainer was asked to do by a vote, until it has done it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...bus.control_channel import Outcome
from ...schemas import Action
from ..rounds import Act, Rounds

LEAVING: Sequence[Action] = ("stop_epoch", "stop")


class Asked:
    """Keeps the votes behind a flag until its trainer has acted on it.

    A trainer may lose a flag: it resets it, or another callback clears it. So the flag is set again
    at each merge point until the trainer has done it, and the verdict says *acted* only then.
    """

    def __init__(self, rounds: Rounds, actions: Mapping[Action, Act]) -> None:
        self.point = ""
        """The merge point at which votes are being counted."""
        self.waiting: dict[Action, Outcome] = {}
        """What is to be asked for again; a stop stays to the end."""
        self._rounds = rounds
        self._given = actions
        self._points: dict[Action, str] = {}

    @property
    def actions(self) -> dict[Action, Act]:
        """What to call for each action, for `Rounds`."""
        own: dict[Action, Act] = {}
        if "stop" in self._given:
            own["stop"] = self._stop
        return {**self._given, **own}

    def note(self, outcome: Outcome) -> None:
        """For an act that has set the trainer's flag: the verdict waits for `done`."""
        self.waiting[outcome.action] = outcome
        self._points[outcome.action] = self.point

    def again(self, only: Sequence[Action], *, stops: bool) -> None:
        """Sets the flags of what can be done from here once more."""
        for action, outcome in list(self.waiting.items()):
            if stops if action in LEAVING else action in only:
                self._given[action](outcome)

    def done(self, action: Action, detail: str) -> None:
        """Puts on record that the trainer has done what was asked for, where it was."""
        if self.waiting:
            outcome = self.waiting.pop(action, None)
            if outcome is not None:
                self._rounds.record(outcome, "acted", self._points.pop(action), detail)

    def refuse(self, action: Action, why: str) -> None:
        """Puts on record that the trainer has not done what was asked for, and will not."""
        outcome = self.waiting.pop(action, None)
        if outcome is not None:
            self._rounds.record(outcome, "refused", self._points.pop(action), why)

    def drop(self, why: str) -> None:
        """Puts on record that the trainer will not do what it was asked for."""
        self.waiting.pop("stop", None)
        while self.waiting:
            action, outcome = self.waiting.popitem()
            self._rounds.record(outcome, "refused", self._points.pop(action), why)

    def _stop(self, outcome: Outcome) -> str | None:
        self.waiting["stop"] = outcome
        return self._given["stop"](outcome)
