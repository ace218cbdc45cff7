"""What a whole training loop costs with nothing attached, beside one by hand that does the same."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from .equal_work import Work
from .figures import Figure
from .loops import LOOPS, is_available, raw
from .paired import Pairs
from .pairing import Steps, measure
from .turns import Turns

CONTROL = "raw, once more"
RATIO, ADDED_US = 1.05, 20.0
"""What stepbus may cost: of a raw step, and in microseconds."""
HAVE_BUDGET = ("TrainingRun", "stepbus.Trainer")


class Case(NamedTuple):
    """A length of step, and how often it is measured."""

    name: str
    step_s: float
    """Of the loop by hand, alone, with one micro-batch."""
    batch_size: int
    accumulation: int
    turns: Turns
    has_budget: bool = False


def cases(quick: bool) -> list[Case]:
    """The lengths that are measured."""
    if quick:
        return [Case("0.4 ms step", 0.0004, 16, 1, Turns(count=100), has_budget=True)]
    return [
        Case("0.4 ms step", 0.0004, 16, 1, Turns(count=300), has_budget=True),
        Case("4 x 0.4 ms micro-batches", 0.0004, 16, 4, Turns(count=60, settling=1)),
        Case("5 ms step", 0.005, 64, 1, Turns(count=70, settling=1, warm_up=20)),
    ]


class Report(NamedTuple):
    """The figures of all cases."""

    ratios: list[Figure]
    """Wall time of a step, to that of the raw step beside it."""
    wall: list[Figure]
    """Wall time that a step has more."""
    cpu: list[Figure]
    """Time on a core that the training thread has more in a step."""


def run(quick: bool) -> Report:
    """Measures all loops that can run here; those that cannot are named on stderr.

    Raises:
        RuntimeError: a loop failed, or did other work than the rest.
    """
    loops = [name for name in LOOPS if is_available(name)]
    for name in LOOPS:
        if name not in loops:
            print(f"{name} is not installed: left out", file=sys.stderr)
    chosen = cases(quick)
    trainings = [(_work(case), case.turns) for case in chosen]
    # Each repetition in fresh processes: what is luck in one is not in the next.
    repetitions = [
        measure([*loops, "raw"], trainings, seed=seed) for seed in range(1 if quick else 5)
    ]
    report = Report([], [], [])
    for number, case in enumerate(chosen):
        taken = [repetition[number] for repetition in repetitions]
        _check_equal([*loops, CONTROL], taken)
        _add(report, case, [*loops, CONTROL], taken)
    return report


def _add(report: Report, case: Case, loops: list[str], taken: list[list[Steps]]) -> None:
    base = [steps[0] for steps in taken]
    wall_base, cpu_base = [s.wall_s for s in base], [s.cpu_s for s in base]
    wall = {n: Pairs([s[i].wall_s for s in taken], wall_base) for i, n in enumerate(loops)}
    cpu = {n: Pairs([s[i].cpu_s for s in taken], cpu_base) for i, n in enumerate(loops)}
    median_ms = statistics.median(itertools.chain(*wall_base)) * 1e3
    for name in [CONTROL, *loops[1:-1]]:
        what = f"{name}, {case.name} ({median_ms:.2f} ms raw)"
        judged = case.has_budget and name in HAVE_BUDGET
        ratio, added = (RATIO, ADDED_US) if judged else (None, None)
        is_control = name == CONTROL
        wall_control = None if is_control else wall[CONTROL]
        cpu_control = None if is_control else cpu[CONTROL]
        report.ratios.append(wall[name].figure(what, "x", wall_control, ratio))
        report.wall.append(wall[name].figure(what, "us", wall_control, added))
        report.cpu.append(cpu[name].figure(what, "us", cpu_control, added))


def _check_equal(loops: Sequence[str], taken: list[list[Steps]]) -> None:
    for repetition in taken:
        for name, steps in zip(loops, repetition, strict=True):
            if steps.weights != repetition[0].weights:
                raise RuntimeError(f"{name} trained other weights than the loop by hand")


def _work(case: Case) -> Work:
    """Work whose raw step takes about so long here: the model is made wider until it does."""
    width = 32
    while _typical_s(width, case.batch_size) < case.step_s * 0.95 and width < 4096:
        width = int(width * 1.15) + 1
    return Work(
        width=width,
        steps=case.turns.steps,
        accumulation=case.accumulation,
        batch_size=case.batch_size,
    )


def _typical_s(width: int, batch_size: int) -> float:
    begun: list[float] = []
    raw(Work(width, 60, batch_size=batch_size), lambda: begun.append(time.perf_counter()))
    return statistics.median(b - a for a, b in itertools.pairwise(begun[10:]))
