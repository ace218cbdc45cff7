"""What stepbus cost a run: the training thread's time at each step, its waits, its votes."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter, deque

from pydantic import BaseModel

from ..schemas.values import FROZEN

QUARTER = 2 ** (1 / 4)
BOUNDS_S = [1e-6 * QUARTER**n for n in range(112)]
"""Limits between which steps are counted, each 19 % above the one before: 1 us to 4 minutes."""


class RunCost(BaseModel):
    """What stepbus cost the training thread of one run, as it stood when it was read.

    A step's cost is what stepbus and gate handlers took at its end: emitting `step_end`, the gate,
    counting votes, a log round. Evaluations and saves are not in it. What is emitted within a step
    (`step_begin`, the optimizer's events) is not timed: an attribute check each, or a fraction of
    a microsecond where somebody listens. `Ledger.gate_s` is the time of gate handlers at any event.
    """

    model_config = FROZEN

    run_id: str = ""
    """The run."""
    attempt: int = 1
    """Which start of it."""
    steps: int = 0
    """Optimizer steps that this attempt has ended."""
    bus_s: float = 0.0
    """What they cost, s."""
    mean_us: float = 0.0
    """The mean cost of a step, us."""
    p99_us: float = 0.0
    """What 99 of 100 steps cost at most, us; exact to a fifth."""
    max_us: float = 0.0
    """The dearest step, us."""
    log_s: float = 0.0
    """Of `bus_s`, spent in log rounds, s."""
    waits: dict[str, int] = {}
    """Device values that the training thread waited for, by what needed them."""
    wait_s: dict[str, float] = {}
    """How long it waited for them, s, by the same."""
    drains: int = 0
    """How often the end of the run waited for its subscribers."""
    drain_s: float = 0.0
    """How long it waited for them, their teardown included, s."""
    votes: int = 0
    """Votes that were cast, those of the schedule left out."""
    verdicts: dict[str, int] = {}
    """What came of them, by outcome: acted, vetoed, refused, late, expired."""
    left_behind: str = ""
    """The training thread, where its host was cancelled and went on before it had stopped."""


class RunAccount:
    """The running account of one run; written by its own thread, read by any.

    `note_step(seconds)` is a deque's own `append`, since it is called at each step; the pump sums
    up what has gathered once a second.
    """

    def __init__(self) -> None:
        self._unread: deque[float] = deque()
        self.note_step = self._unread.append
        self.log_s = 0.0
        self.verdicts: Counter[str] = Counter()
        self.left_behind = ""
        self._lock = threading.Lock()
        self._steps = 0
        self._bus_s = 0.0
        self._max_s = 0.0
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._waits: Counter[str] = Counter()
        self._wait_s: dict[str, float] = {}
        self._drains = 0
        self._drain_s = 0.0

    def waited(self, cause: str, seconds: float, *, values: int = 1) -> None:
        """Notes that the training thread waited for device values, and what needed them."""
        with self._lock:
            self._waits[cause] += values
            self._wait_s[cause] = self._wait_s.get(cause, 0.0) + seconds

    def drained(self, seconds: float) -> None:
        """Notes that the run waited for its subscribers."""
        self._drains += 1
        self._drain_s += seconds

    def sum_up(self) -> None:
        """Takes in the steps that have been noted since; from any thread."""
        unread = self._unread
        with self._lock:
            batch = sorted(unread.popleft() for _ in range(len(unread)))
            if not batch:
                return
            self._steps += len(batch)
            self._bus_s += sum(batch)
            self._max_s = max(self._max_s, batch[-1])
            place = bisect_right(BOUNDS_S, batch[0])
            done = 0
            while done < len(batch):
                upto = bisect_right(batch, BOUNDS_S[place]) if place < len(BOUNDS_S) else None
                upto = len(batch) if upto is None else upto
                self._counts[place] += upto - done
                done = upto
                place += 1

    def cost(self, run_id: str, attempt: int, *, votes: int = 0) -> RunCost:
        """The account as it stands."""
        self.sum_up()
        with self._lock:
            return RunCost(
                run_id=run_id,
                attempt=attempt,
                steps=self._steps,
                bus_s=self._bus_s,
                mean_us=1e6 * self._bus_s / max(1, self._steps),
                p99_us=1e6 * self._quantile_s(0.99),
                max_us=1e6 * self._max_s,
                log_s=self.log_s,
                waits=dict(self._waits),
                wait_s=dict(self._wait_s),
                drains=self._drains,
                drain_s=self._drain_s,
                votes=votes,
                verdicts=dict(self.verdicts),
                left_behind=self.left_behind,
            )

    def _quantile_s(self, share: float) -> float:
        """The upper limit of the steps within which that share of them lies."""
        left = share * self._steps
        for place, count in enumerate(self._counts):
            left -= count
            if left <= 0 and count:
                return min(self._max_s, BOUNDS_S[min(place, len(BOUNDS_S) - 1)])
        return self._max_s
