"""What to do about a subscriber, in one line, from what it cost in each place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .comparison import Compared
from .figures import shown
from .subject import WHERE, Where

TOLERANCE = 0.02
"""A place that costs no more than this share of a step over the cheapest is as good."""
TAIL = 0.1
"""The same for the slowest step of a hundred."""

PLACES: dict[Where, str] = {"inline": "inline", "thread": "in a thread", "process": "in a process"}
COMMANDS: dict[Where, str] = {
    "inline": "call it inline",
    "thread": "move it to a thread",
    "process": "move it to a process",
}
STAYS: dict[Where, str] = {
    "inline": "leave it inline",
    "thread": "leave it in a thread",
    "process": "leave it in a process",
}


@dataclass(frozen=True)
class Case:
    """One length of step: what each place cost, beside the control."""

    step_ms: float
    """Asked for."""
    raw_ms: float
    """Of the loop by hand, as it turned out."""
    control: Compared
    alone: Compared
    """stepbus with nobody attached."""
    places: Mapping[Where, Compared]


def verdict(cases: Sequence[Case], usual: Where, broken: Mapping[Where, str]) -> str:
    """The line.

    Args:
        cases: the lengths of step.
        usual: where the subject runs if nobody says otherwise.
        broken: places in which its handlers failed, so that their figures mean nothing.
    """
    whole = [where for where in WHERE if where not in broken and _measured(where, cases)]
    if not whole:
        why = "; ".join(f"{PLACES[where]}: {text}" for where, text in broken.items())
        return f"no verdict: it worked in no place ({why})"
    best = next(where for where in whole if all(_as_good(where, whole, case) for case in cases))
    case = max(cases, key=lambda case: max(_level(case.places[w]) for w in whole))
    if all(_is_nothing(case.places[where], case) for case in cases for where in whole):
        return f"{STAYS[usual]}: no place can be told from stepbus with nobody attached"
    if usual in whole and all(_as_good(usual, whole, case) for case in cases):
        best = usual
    said = STAYS[best] if best == usual else COMMANDS[best]
    return f"{said}: {_figures(case, best, whole)}"


def _measured(where: Where, cases: Sequence[Case]) -> bool:
    return all(where in case.places for case in cases)


def _as_good(where: Where, others: Sequence[Where], case: Case) -> bool:
    """Whether no other place is better by more than can be told and matters."""
    mine = case.places[where]
    slack = max(TOLERANCE, case.control.p50.floor("x"), case.control.mean.floor("x"))
    tail = max(TAIL, case.control.p99.floor("x"))
    return all(
        _level(mine) <= _level(other) + slack
        # Where others are dearer by far in the middle, its tail is no reason to leave it.
        and (mine.p99.value <= other.p99.value + tail or _level(mine) < _level(other) - slack)
        for other in (case.places[place] for place in others)
    )


def _level(compared: Compared) -> float:
    """What a step costs: handlers that hold the interpreter lock now and then show in the mean."""
    return max(compared.p50.value, compared.mean.value)


def _is_nothing(compared: Compared, case: Case) -> bool:
    control, alone = case.control, case.alone
    slack = max(TOLERANCE, control.p50.floor("x"), control.mean.floor("x"))
    tail = max(TAIL, control.p99.floor("x"))
    return (
        _level(compared) - _level(alone) <= slack and compared.p99.value - alone.p99.value <= tail
    )


def _figures(case: Case, best: Where, whole: Sequence[Where]) -> str:
    rest = [where for where in reversed(WHERE) if where in whole and where != best]
    first = f"a {case.step_ms:g} ms step takes {_cost(case.places[best])} {PLACES[best]}"
    return ", ".join([first, *(f"{_cost(case.places[where])} {PLACES[where]}" for where in rest)])


def _cost(compared: Compared) -> str:
    """The median; the mean where it is what costs."""
    if compared.mean.value > 1.2 * compared.p50.value:
        return f"{shown(compared.mean.value, 'x')} in the mean"
    return shown(compared.p50.value, "x")
