"""What comes back from those who listen: votes, counted before the next step."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from ..schemas import ACTIONS, Action, Decision, Vote, VotePolicy, merge
from ..schemas.errors import ArgumentError
from ..schemas.merging import ANY
from .clock import Clock
from .diagnostics import get_logger
from .fork import refuse

log = get_logger()

MOST_EXPIRED = 1_000

Settle = Callable[[dict[str, Any]], None]
"""Tells who waits for a vote what came of it: the fields of the verdict."""


class Cast(NamedTuple):
    """A vote as it arrived."""

    vote: Vote
    arrived_s: float
    arrived_step: int
    scheduled: bool = False
    """True for the default flow's own schedule, which makes no verdicts."""
    settle: Settle | None = None

    def expired(self, step: int, now: float) -> bool:
        """Whether the vote has lapsed."""
        vote = self.vote
        since = vote.step if vote.step is not None else self.arrived_step
        return (
            vote.expires_after_steps is not None and step - since > vote.expires_after_steps
        ) or (vote.expires_after_s is not None and now - self.arrived_s > vote.expires_after_s)


class Outcome(NamedTuple):
    """What the votes for one action came to."""

    action: Action
    decision: Decision
    casts: tuple[Cast, ...]

    @property
    def scheduled(self) -> bool:
        """True when nobody but the schedule asked, so that no verdict is due."""
        return all(cast.scheduled for cast in self.casts)


class VoteTransport(Protocol):
    """How the ranks of a run agree on a decision before it acts. One process needs no round."""

    def agree(self, carried: Mapping[Action, bool]) -> Mapping[Action, bool]:
        """The decisions that all ranks share."""


class LocalTransport:
    """The transport of a single process."""

    def agree(self, carried: Mapping[Action, bool]) -> Mapping[Action, bool]:
        """The decisions as they are."""
        return carried


class RunControl:
    """The votes of one run. Posting is possible from any thread; deciding is the run's own."""

    def __init__(
        self,
        run_id: str,
        clock: Clock,
        policies: Mapping[Action, VotePolicy],
        transport: VoteTransport | None = None,
    ) -> None:
        self.run_id = run_id
        self.step = 0
        self.has_votes = False
        self.num_votes = 0
        """Votes that were taken so far, those of the schedule left out."""
        self.expired: deque[Cast] = deque(maxlen=MOST_EXPIRED)
        """Votes that lapsed, for the run to put on record and take out."""
        self._clock = clock
        self._policies = policies
        self._transport = transport or LocalTransport()
        self._lock = threading.Lock()
        self._standing: dict[Action, dict[tuple[str, bool], Cast]] = {a: {} for a in ACTIONS}
        self._closed = False
        self._inert = False

    def post(self, vote: Vote, *, scheduled: bool = False, settle: Settle | None = None) -> bool:
        """Takes a vote; False when the run has ended, so that it comes too late.

        Of one voter the newest vote for an action stands, so that a flood of votes takes no
        memory.
        """
        if self._inert:
            refuse()
        # A critical vote stands beside the voter's others: nothing replaces it but its like.
        lasting = vote.critical and not vote.against and not vote.withdrawn
        with self._lock:
            if self._closed:
                return False
            casts = self._standing[vote.action]
            former = casts.pop((vote.voter, lasting), None)
            self.num_votes += not scheduled
            if not vote.withdrawn:
                arrived = self._clock.monotonic()
                casts[vote.voter, lasting] = Cast(vote, arrived, self.step, scheduled, settle)
            self.has_votes = any(self._standing.values())
        if former is not None and former.settle is not None and former.settle is not settle:
            why = "withdrawn" if vote.withdrawn else "replaced by a newer vote"
            former.settle(
                {"outcome": "refused", "action": vote.action, "detail": f"{why} by this voter"}
            )
        if vote.withdrawn and settle is not None:
            settle({"outcome": "acted", "action": vote.action, "detail": "withdrew the vote"})
        return True

    def make_inert(self) -> None:
        """Makes voting an error; in a forked child."""
        self._inert = True

    def decide(self, action: Action, step: int) -> Outcome | None:
        """Counts the votes for one action; those that acted or were vetoed are spent.

        None when nothing is to be done: no votes, or too few of them so far.
        """
        with self._lock:
            casts = self._standing[action]
            if not casts:
                return None
            now = self._clock.monotonic()
            expired = {key: cast for key, cast in casts.items() if cast.expired(step, now)}
            for key in expired:
                del casts[key]
            decision = self._count(action, list(casts.values()))
            outcome = None
            if decision.carried or decision.vetoed:
                outcome = Outcome(action, decision, tuple(casts.values()))
                casts.clear()
            self.has_votes = any(self._standing.values())
        for cast in expired.values():
            self._tell_expired(cast, step)
        if outcome is None:
            return None
        carried = self._transport.agree({action: decision.carried})[action]
        return outcome._replace(decision=decision._replace(carried=carried))

    def is_critical(self, action: Action) -> bool:
        """Whether somebody asks for the action whose vote nothing can hold back."""
        with self._lock:
            return any(key[1] for key in self._standing[action])

    def wants(self, action: Action, step: int, *, by_vote: bool = False) -> bool:
        """Whether the action would be carried now, without spending any vote.

        With `by_vote`, whether it would be without the schedule.
        """
        with self._lock:
            now = self._clock.monotonic()
            standing = [c for c in self._standing[action].values() if not c.expired(step, now)]
            if by_vote:
                standing = [cast for cast in standing if not cast.scheduled]
            return self._count(action, standing).carried

    def _count(self, action: Action, casts: list[Cast]) -> Decision:
        scheduled = [cast.vote for cast in casts if cast.scheduled]
        policy = self._policies.get(action, ANY)
        decision = merge((cast.vote for cast in casts if not cast.scheduled), policy)
        if not scheduled:
            return decision
        # The schedule carries its action by itself, whatever the policy; a veto still stops it.
        critical = any(vote.critical for vote in decision.votes)
        vetoed = bool(decision.vetoes) and not critical
        return Decision(not vetoed, vetoed, (*decision.votes, *scheduled), decision.vetoes)

    def close(self) -> list[Cast]:
        """Ends the run's voting and gives back the votes that nothing came of."""
        with self._lock:
            self._closed = True
            left = [cast for casts in self._standing.values() for cast in casts.values()]
            for casts in self._standing.values():
                casts.clear()
        return [cast for cast in left if not cast.scheduled]

    def _tell_expired(self, cast: Cast, step: int) -> None:
        vote = cast.vote
        log.info(f"vote {vote.action!r} of {vote.voter} expired at step {step}")
        self.expired.append(cast)
        if cast.settle is not None:
            cast.settle({"outcome": "expired", "action": vote.action, "acted_at": step})


class ControlChannel:
    """Takes votes for all runs of a bus; those cast while no run is open wait for the next."""

    def __init__(self, clock: Clock, policies: Mapping[Action, VotePolicy] | None = None) -> None:
        self.clock = clock
        self._policies = dict(policies or {})
        self._lock = threading.Lock()
        self._runs: dict[str, RunControl] = {}
        self._early: dict[tuple[Action, str, bool], tuple[Vote, Settle | None]] = {}

    def open(self, run_id: str, *, takes_waiting: bool = True) -> RunControl:
        """Starts the voting of a run; it gets the votes that wait for one.

        Args:
            run_id: the run.
            takes_waiting: False for one that does not train, so that they wait on.

        Raises:
            ArgumentError: a run of that name is open.
        """
        control = RunControl(run_id, self.clock, self._policies)
        with self._lock:
            if run_id in self._runs:
                raise ArgumentError(f"A run {run_id!r} is open on this bus: give another run_id.")
            # Before others can post to it, so that of one voter the newest vote stays.
            if takes_waiting:
                for vote, settle in self._early.values():
                    control.post(vote, settle=settle)
                self._early = {}
            self._runs[run_id] = control
        return control

    def close(self, run_id: str) -> list[Cast]:
        """Ends the voting of a run and gives back the votes that nothing came of."""
        with self._lock:
            control = self._runs.pop(run_id, None)
        return control.close() if control is not None else []

    def post(self, vote: Vote, *, run_id: str | None = None, settle: Settle | None = None) -> bool:
        """Casts a vote for one run, or for all that are open; False when it comes too late.

        Without a `run_id` and with no run open, the vote waits for the next run.
        """
        with self._lock:
            if run_id is not None:
                controls = [self._runs[run_id]] if run_id in self._runs else []
            else:
                controls = list(self._runs.values())
                if not controls:
                    self._wait_for_a_run(vote, settle)
                    return True
        posted = [control.post(vote, settle=settle) for control in controls]
        return any(posted)

    def _wait_for_a_run(self, vote: Vote, settle: Settle | None) -> None:
        lasting = vote.critical and not vote.against and not vote.withdrawn
        self._early.pop((vote.action, vote.voter, lasting), None)
        if not vote.withdrawn:
            self._early[vote.action, vote.voter, lasting] = (vote, settle)

    def waiting(self) -> list[Vote]:
        """The votes that wait for a run to open."""
        with self._lock:
            return [vote for vote, _ in self._early.values()]
