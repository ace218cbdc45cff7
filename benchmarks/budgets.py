"""The budgets of the design, each tied to the figures that say whether it is met."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stepbus.cli.bench.figures import Figure

OURS = r"stepbus (TrainingRun|Trainer)"
SHORT, LONG = "0.4 ms step", "5 ms step"


class Limit(NamedTuple):
    """What some figures should not exceed. Parts are patterns that must match as a whole."""

    part: str
    case: str
    subject: str
    measure: str
    value: float
    at_least: bool = False

    def fits(self, figure: Figure) -> bool:
        """Whether it is about a figure."""
        pairs = (
            (self.part, figure.part),
            (self.case, figure.case),
            (self.subject, figure.subject),
            (self.measure, figure.measure),
        )
        return all(re.fullmatch(pattern, text) for pattern, text in pairs)


@dataclass(frozen=True)
class Budget:
    """One row of the design's table."""

    what: str
    limits: tuple[Limit, ...]
    needs: str = ""
    """What it takes to measure it, where that is not everywhere."""


def _ratios(part: str, case: str, subject: str, p50: float, p99: float) -> tuple[Limit, Limit]:
    return (
        Limit(part, case, subject, "p50", p50),
        Limit(part, case, subject, "p99", p99),
    )


BUDGETS: tuple[Budget, ...] = (
    Budget(
        "emit, nobody listening: at most 0.1 us",
        (Limit("emit", "0 handlers", "stepbus", ".*", 0.1),),
    ),
    Budget(
        "emit, 1 to 32 subscribers, warm loop: at most 0.5 us",
        (Limit("emit", "(1|8|32) handlers?", "stepbus", ".*", 0.5),),
    ),
    Budget(
        "one emit inside a real 0.4 ms / 5 ms step: at most 2 us / 8 us",
        (
            Limit("emit", f"inside a {SHORT}", ".*", ".*", 2.0),
            Limit("emit", f"inside a {LONG}", ".*", ".*", 8.0),
        ),
    ),
    Budget(
        "whole engine, nothing attached, 0.4 ms step: at most 1.05 x raw, 20 us",
        (
            Limit("engines", f"{SHORT}, nothing attached", OURS, "p50", 1.05),
            Limit("engines", f"{SHORT}, nothing attached", OURS, "wall_us", 20.0),
        ),
    ),
    Budget(
        "what a user gets without asking, 0.4 ms step: p50 at most 1.05, p99 at most 1.5 x raw",
        _ratios("engines", f"{SHORT}, with subscribers", f"{OURS}, as it comes.*", 1.05, 1.5),
    ),
    Budget(
        "TensorBoard, wandb, MLflow and CodeCarbon logging every step, 0.4 ms step: p50 at most "
        "1.10, p99 at most 1.5 x raw",
        _ratios("engines", f"{SHORT}, with subscribers", f"{OURS}, all four", 1.10, 1.5),
    ),
    Budget(
        "the same, 5 ms step: p50 at most 1.02, p99 at most 1.05 x raw",
        _ratios("engines", f"{LONG}, with subscribers", f"{OURS}, all four", 1.02, 1.05),
    ),
    Budget(
        "of these, TensorBoard alone, 0.4 ms / 5 ms step (the limits of all four)",
        (
            *_ratios("engines", f"{SHORT}, with subscribers", f"{OURS}, tensorboard", 1.10, 1.5),
            *_ratios("engines", f"{LONG}, with subscribers", f"{OURS}, tensorboard", 1.02, 1.05),
        ),
    ),
    Budget(
        "train() from call to return, 5 ms step, set-up and drain in: at most 1.05 x raw + 15 s",
        (Limit("whole", ".*", "stepbus.*", "s over 1.05 x raw", 15.0),),
    ),
    Budget(
        "a subscriber that sleeps 20 ms per event: p50 at most 1.02, p99 at most 1.5 x raw",
        _ratios("hostile", ".*sleeps.*", r"stepbus, (thread|process)", 1.02, 1.5),
    ),
    Budget(
        "in a process, one that burns 5 ms of Python per event: p50 at most 1.02, p99 at most "
        "1.5 x raw",
        _ratios("hostile", ".*burns.*", "stepbus, process", 1.02, 1.5),
    ),
    Budget(
        "while a checkpoint is uploaded from a process: p50 at most 1.02, p99 at most 1.5 x raw",
        _ratios("uploads", ".*", "stepbus, process.*", 1.02, 1.5),
    ),
    Budget(
        "host synchronisations added on CUDA: 0; GPU idle added: at most 0.5 points",
        (
            Limit("cuda", ".*", "stepbus.*", "synchronisations added", 0.0),
            Limit("cuda", ".*", "stepbus.*", "GPU idle added", 0.5),
        ),
        needs="a CUDA device",
    ),
    Budget(
        "launch-bound CUDA step / 124M-parameter GPT in bf16: p50 at most 1.02 / 1.003 x raw",
        (
            Limit("cuda", "launch-bound.*", "stepbus.*", "p50", 1.02),
            Limit("cuda", "124M.*", "stepbus.*", "p50", 1.003),
        ),
        needs="a CUDA device",
    ),
    Budget(
        "a trainer of others with a bridge, its trackers behind it: at most 1.05 x without",
        (Limit("bridges", ".*", "stepbus bridge.*", "p50", 1.05),),
    ),
    Budget(
        "events to one subscriber, end to end: at least 150,000/s",
        (Limit("throughput", "1 subscriber", "stepbus.*", "events/s", 150_000, at_least=True),),
    ),
    Budget(
        "memory under a stuck subscriber, a million events: at most 50 MB over the start",
        (Limit("throughput", "memory under a stuck.*", "stepbus", "MB.*", 50.0),),
    ),
    Budget(
        "cost per step at step 1,000,000 against step 1,000: at most 1.05 x",
        (Limit("growth", ".*", "at step (100,000|1,000,000)", "p50", 1.05),),
    ),
)


def judged(figures: Sequence[Figure]) -> list[Figure]:
    """The figures, each with the budget that is about it, if any."""
    found = []
    for figure in figures:
        for limit in (limit for budget in BUDGETS for limit in budget.limits):
            if limit.fits(figure):
                figure = dataclasses.replace(figure, budget=limit.value, at_least=limit.at_least)
                break
        found.append(figure)
    return found


def figures_of(budget: Budget, figures: Sequence[Figure]) -> list[Figure]:
    """Those that a budget is about."""
    return [figure for figure in figures if any(limit.fits(figure) for limit in budget.limits)]


def outcome(figures: Sequence[Figure]) -> str:
    """Met, or not, of all figures of one budget together."""
    if not figures:
        return "not measured"
    verdicts = [figure.verdict for figure in figures]
    if all(verdict == "met" for verdict in verdicts):
        return "met"
    if any(verdict.startswith("not met") for verdict in verdicts):
        return "**not met**"
    return "not told from the control"
