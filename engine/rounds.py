"""A merge point: the votes are counted and acted on, in the order log, evaluate, save, stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..bus import RunLink
from ..bus.control_channel import Cast, Outcome
from ..schemas import Action

ACTED_ON: tuple[Action, ...] = ("log", "evaluate", "save")


class Unavailable(Exception):
    """An action that the run has no means for; its text says why."""


class Stop(NamedTuple):
    """Why a run, or an epoch, is left."""

    reason: str
    voters: str
    scheduled: bool


Act = Callable[[Outcome], str]
"""Does what was carried and says what it did."""


class Rounds:
    """Counts the votes of a run at its merge points."""

    def __init__(self, link: RunLink, actions: dict[Action, Act]) -> None:
        self._link = link
        self._actions = actions
        self._in_round = False
        self.stop: Stop | None = None
        self.stop_epoch: Stop | None = None

    def hold(self, point: str, *, stops: bool = True) -> None:
        """One round: each action at most once; what its own events ask for is acted on too.

        A vote for an action that has been acted on in this round waits for the next one, so that
        a callback that asks for a log at each log does not go on for ever.
        """
        link = self._link
        link.collect_gate_votes()
        if not link.votes.has_votes or self._in_round:
            return
        self._in_round = True
        try:
            self._hold(point, stops)
        finally:
            self._in_round = False

    def _hold(self, point: str, stops: bool) -> None:
        acted: set[Action] = set()
        while (outcome := self._next(acted)) is not None:
            acted.add(outcome.action)
            self._carry_out(outcome, point)
            point = outcome.action if outcome.action != "evaluate" else "evaluate"
            self._link.collect_gate_votes()
        if stops:
            self._decide_stops(point)

    def _next(self, acted: set[Action]) -> Outcome | None:
        step = self._link.state.global_step
        for action in ACTED_ON:
            if action not in acted:
                outcome = self._link.votes.decide(action, step)
                if outcome is not None:
                    return outcome
        return None

    def _decide_stops(self, point: str) -> None:
        step = self._link.state.global_step
        for action in ("stop_epoch", "stop"):
            outcome = self._link.votes.decide(action, step)
            if outcome is None:
                continue
            if outcome.decision.carried:
                stop = Stop(
                    "; ".join(vote.reason for vote in outcome.decision.votes if vote.reason),
                    ", ".join(vote.voter for vote in outcome.decision.votes),
                    outcome.scheduled,
                )
                if action == "stop":
                    self.stop = stop
                else:
                    self.stop_epoch = stop
            self._record(outcome, point, "leaves the loop" if action == "stop" else "leaves the epoch")

    def _carry_out(self, outcome: Outcome, point: str) -> None:
        if not outcome.decision.carried:
            self._record(outcome, point, "")
            return
        act = self._actions.get(outcome.action)
        try:
            if act is None:
                raise Unavailable(f"this run has no means to {outcome.action}")
            detail = act(outcome)
        except Unavailable as why:
            self._record(outcome, point, str(why), refused=True)
        else:
            self._record(outcome, point, detail)

    def wants_stop(self) -> bool:
        """Whether a stop would be carried now; spends no vote."""
        self._link.collect_gate_votes()
        return self._link.votes.has_votes and self._link.votes.wants(
            "stop", self._link.state.global_step
        )

    def close(self, left: list[Cast]) -> None:
        """Puts on record the votes that came too late for anything."""
        for cast in left:
            self._emit(
                cast.vote.action, "late", (cast,), (), "train_end", "the run ended before it could act"
            )

    def _record(self, outcome: Outcome, point: str, detail: str, *, refused: bool = False) -> None:
        if outcome.scheduled:
            return
        decision = outcome.decision
        result = "refused" if refused else "acted" if decision.carried else "vetoed"
        if result == "vetoed":
            detail = "; ".join(vote.reason for vote in decision.vetoes if vote.reason)
        self._emit(outcome.action, result, outcome.casts, decision.vetoes, point, detail)

    def _emit(
        self,
        action: Action,
        result: str,
        casts: tuple[Cast, ...],
        vetoes: tuple[object, ...],
        point: str,
        detail: str,
    ) -> None:
        votes = tuple(cast.vote for cast in casts if not cast.vote.against)
        seen = [vote.step for vote in votes if vote.step is not None]
        values = {
            "action": action,
            "outcome": result,
            "votes": votes,
            "vetoes": vetoes,
            "point": point,
            "seen_at": max(seen, default=None),
            "acted_at": self._link.state.global_step,
            "detail": detail,
        }
        settles = tuple(cast.settle for cast in casts if cast.settle is not None)
        emitter = self._link.emitters["verdict"]
        if emitter.active:
            self._link.fire(emitter, values, note=settles)
        if settles and not emitter.wanted:
            verdict = {name: values[name] for name in ("action", "outcome", "point", "acted_at", "detail")}
            for settle in settles:
                settle(verdict)
