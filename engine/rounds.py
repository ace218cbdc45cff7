"""A merge point: the votes are counted and acted on, in the order log, evaluate, save, stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from ..bus import RunLink
from ..bus.control_channel import Cast, Outcome
from ..schemas import Action, Vote
from .signals import StopSignals

ACTED_ON: tuple[Action, ...] = ("log", "evaluate", "save")
LEAVES: Mapping[Action, str] = {"stop_epoch": "leaves the epoch", "stop": "leaves the loop"}


class Unavailable(Exception):
    """An action that the run has no means for; its text says why."""


class Stop(NamedTuple):
    """Why a run, or an epoch, is left."""

    reason: str
    voters: str
    scheduled: bool = False


Act = Callable[[Outcome], str | None]
"""Does what was carried and says what it did; raises Unavailable where it cannot. None where it
has only asked another for it, and puts on record itself what came of that."""


class Rounds:
    """Counts the votes of a run at its merge points."""

    def __init__(self, link: RunLink, signals: StopSignals | None = None) -> None:
        self._link = link
        self._signals = signals
        self._in_round = False
        self.actions: Mapping[Action, Act] = {}
        """What to call for each action. For a stop or a stop of the epoch it need not be given."""
        self.refusal = ""
        """Why nothing that is voted for is done; empty where it is."""
        self.vetoed: Callable[[Action], None] = lambda action: None
        """Hears of an action that was asked for and vetoed."""
        self.stop: Stop | None = None
        self.stop_epoch: Stop | None = None

    def hold(self, point: str, *, stops: bool = True, only: Sequence[Action] = ACTED_ON) -> None:
        """One round: each action at most once; what its own events ask for is acted on too.

        A vote for an action that has been acted on in this round waits for the next one, so that
        a callback that asks for a log at each log does not go on for ever.

        Args:
            point: the event after which the votes are counted.
            stops: whether the loop, or the epoch, may be left here.
            only: what else may be done here; votes for the rest wait.
        """
        link, signals = self._link, self._signals
        if signals is not None and signals.unheard:
            self._collect()
        elif not link.control.is_settled:
            link.collect_gate_votes()
        if not link.votes.has_votes or self._in_round:
            return
        self._in_round = True
        try:
            acted: set[Action] = set()
            while (outcome := self._next(acted, only)) is not None:
                acted.add(outcome.action)
                self._carry_out(outcome, point)
                point = outcome.action
                self._collect()
            if stops:
                self._decide_stops(point)
            self._record_expired(point)
        finally:
            self._in_round = False

    def schedule(self, action: Action) -> None:
        """Asks for an action in the name of the arguments: it makes no verdict of its own."""
        vote = Vote(action, voter="the arguments", step=self._link.state.global_step)
        self._link.votes.post(vote, scheduled=True)

    def wants_stop(self, *, except_for: bool = False) -> bool:
        """Whether a stop would be carried now; spends no vote.

        Args:
            except_for: a stop that may wait has been asked for before: only one that may not, by a
                signal for one, counts.
        """
        self._collect()
        votes = self._link.votes
        return votes.is_critical("stop") if except_for else self._wants("stop")

    def leaves_epoch(self) -> bool:
        """Whether the epoch would be left now; spends no vote."""
        return self.stop_epoch is not None or self._wants("stop_epoch")

    def close(self, left: list[Cast]) -> None:
        """Puts on record the votes that came too late for anything."""
        for cast in left:
            detail = "the run ended before it could act"
            self._emit(cast.vote.action, "late", (cast,), "train_end", detail)

    def _collect(self) -> None:
        if self._signals is not None and self._signals.unheard:
            self._hear(self._signals.unheard.pop())
        self._link.collect_gate_votes()

    def _hear(self, name: str) -> None:
        """A signal's votes, cast here: its handler may have interrupted the counting of votes."""
        reason = f"{name} was received"
        self._link.votes.post(Vote("save", voter=name, reason=reason))
        self._link.votes.post(Vote("stop", voter=name, reason=reason, critical=True))

    def _wants(self, action: Action) -> bool:
        votes = self._link.votes
        return votes.has_votes and votes.wants(action, self._link.state.global_step, by_vote=True)

    def _next(self, acted: set[Action], only: Sequence[Action]) -> Outcome | None:
        step = self._link.state.global_step
        for action in only:
            if action not in acted:
                outcome = self._link.votes.decide(action, step)
                if outcome is not None:
                    return outcome
        return None

    def _carry_out(self, outcome: Outcome, point: str) -> None:
        if not outcome.decision.carried:
            self._record_vetoed(outcome, point)
            return
        if self.refusal:
            self.record(outcome, "refused", point, self.refusal)
            return
        self._link.control.show(outcome.action)
        try:
            detail = self.actions[outcome.action](outcome)
        except Unavailable as why:
            self.record(outcome, "refused", point, str(why))
        except BaseException as error:
            self.record(outcome, "refused", point, f"it failed: {type(error).__name__}: {error}")
            raise
        else:
            if detail is not None:
                self.record(outcome, "acted", point, detail)

    def _decide_stops(self, point: str) -> None:
        for action, detail in LEAVES.items():
            outcome = self._link.votes.decide(action, self._link.state.global_step)
            if outcome is None:
                continue
            if not outcome.decision.carried:
                self._record_vetoed(outcome, point)
                continue
            if self.refusal:
                self.record(outcome, "refused", point, self.refusal)
                continue
            self._link.control.show(action)
            act = self.actions.get(action)
            try:
                done = act(outcome) if act else None
            except Unavailable as why:
                self.record(outcome, "refused", point, str(why))
                continue
            votes = outcome.decision.votes
            voters = ", ".join(vote.voter for vote in votes)
            stop = Stop(_reasons(votes), voters, outcome.scheduled)
            if action == "stop":
                self.stop = stop
            else:
                self.stop_epoch = stop
            self.record(outcome, "acted", point, done or detail)

    def _record_vetoed(self, outcome: Outcome, point: str) -> None:
        self._link.control.reset(outcome.action)
        self.vetoed(outcome.action)
        self.record(outcome, "vetoed", point, _reasons(outcome.decision.vetoes))

    def record(self, outcome: Outcome, result: str, point: str, detail: str) -> None:
        """Says what came of the votes for an action; nothing where the schedule alone asked."""
        if not outcome.scheduled:
            self._emit(outcome.action, result, outcome.casts, point, detail)

    def _record_expired(self, point: str) -> None:
        expired = self._link.votes.expired
        while expired:
            # Who waits for the vote was told when it lapsed.
            cast = expired.popleft()._replace(settle=None)
            self._emit(cast.vote.action, "expired", (cast,), point, "it lapsed")

    def _emit(
        self, action: Action, result: str, casts: tuple[Cast, ...], point: str, detail: str
    ) -> None:
        self._link.account.verdicts[result] += 1
        votes = tuple(cast.vote for cast in casts if not cast.vote.against)
        seen = [vote.step for vote in votes if vote.step is not None]
        values = {
            "action": action,
            "outcome": result,
            "votes": votes,
            "vetoes": tuple(cast.vote for cast in casts if cast.vote.against),
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
            verdict = {k: values[k] for k in ("action", "outcome", "point", "acted_at", "detail")}
            for settle in settles:
                settle(verdict)


def _reasons(votes: tuple[Vote, ...]) -> str:
    return "; ".join(vote.reason for vote in votes if vote.reason)
