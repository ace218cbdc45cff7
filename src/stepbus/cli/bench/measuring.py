"""`stepbus bench`: runs the loops in turns and sets each beside the raw one."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ...engine.bench.equal_work import Work
from ...engine.bench.sizing import work_of
from .comparison import CONTROL, Compared, compare
from .pairing import Steps, Training, measure
from .subject import NAME, WHERE, Subject, Where
from .turns import LoopSpec, Turns
from .verdict import Case

TURN_S = 0.06
"""How long a loop steps before it is another's turn, s."""
UNMEASURED_S = 2.0
"""At the start of each length, before what is measured counts, s."""
SLACK = 1.6
"""A loop has work for this much more steps than the time has room for."""
ALONE = "stepbus alone"
"""A run with nobody attached."""
RAW = "stepbus.engine.bench.loops:raw"
VARIANTS = "stepbus.cli.bench.variants"


@dataclass(frozen=True)
class Outcome:
    """What the measurement of one subject came to."""

    cases: list[Case]
    accounts: dict[Where, dict[str, Any]]
    """Of the subject in each place, from the longest case: a row of the ledger."""

    @property
    def broken(self) -> dict[Where, str]:
        """Places in which its handlers failed."""
        return {
            where: f"{row['failures']} of its events failed"
            + (f", and it was quarantined: {row['quarantined']}" if row["quarantined"] else "")
            for where, row in self.accounts.items()
            if row.get("failures")
        }


def run(
    subject: Subject,
    places: Sequence[Where],
    step_ms: Sequence[float],
    *,
    seconds: float,
    logging_steps: int,
    tell: Callable[[str], object],
) -> Outcome:
    """Measures a subject in some places, in about `seconds` altogether.

    Raises:
        LoopFailed: a loop failed.
    """
    begun_s = time.monotonic()
    tell("finding models whose steps take as long as is asked for")
    sizes = [work_of(each / 1e3, steps=1) for each in step_ms]
    each_s = seconds / len(step_ms)
    trainings = [_training(size, ms, each_s) for size, ms in zip(sizes, step_ms, strict=True)]
    names = [CONTROL, ALONE, *places]
    taken = measure(
        [LoopSpec(RAW, name="raw"), *_loops(subject, places, logging_steps)],
        trainings,
        seed=0,
        until_s=begun_s + seconds,
        tell=tell,
    )
    cases = [_case(ms, names, steps, places) for ms, steps in zip(step_ms, taken, strict=True)]
    accounts = {
        where: _account(steps.facts) for where, steps in zip(places, taken[0][3:], strict=True)
    }
    return Outcome(cases, accounts)


def _loops(subject: Subject, places: Sequence[Where], logging_steps: int) -> list[LoopSpec]:
    logs = {"logging_steps": logging_steps}
    options = logs | {"subject": asdict(subject)}
    return [
        LoopSpec(RAW, name=CONTROL),
        LoopSpec(f"{VARIANTS}:alone", logs, ALONE),
        *(LoopSpec(f"{VARIANTS}:delivered", options | {"where": w}, w) for w in places),
    ]


def _training(size: Work, step_ms: float, seconds: float) -> Training:
    step_s = step_ms / 1e3
    turns = Turns(
        settling=3,
        measured=max(2, round(TURN_S / step_s)),
        most_s=2 * TURN_S,
        warm_up=30,
        warm_up_most_s=2.0,
    )
    most = int(SLACK * seconds / step_s) + turns.steps(2)
    work = dataclasses.replace(size, steps=most)
    return Training(work, turns, seconds=seconds, unmeasured_s=UNMEASURED_S)


def _case(
    step_ms: float, names: Sequence[str], steps: Sequence[Steps], places: Sequence[Where]
) -> Case:
    base, *others = steps
    compared: Mapping[str, Compared] = {
        name: compare(name, [each], [base]) for name, each in zip(names, others, strict=True)
    }
    raw_ms = statistics.median(t for turn in base.wall_s for t in turn) * 1e3
    return Case(
        step_ms,
        raw_ms,
        compared[CONTROL],
        compared[ALONE],
        {where: compared[where] for where in WHERE if where in places},
    )


def _account(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The subject's row of the ledger: under its own name where it is called by the run."""
    rows: list[dict[str, Any]] = facts.get("ledger", [])
    named = [row for row in rows if row["subscriber"] == NAME]
    return (named or rows or [{}])[-1]
