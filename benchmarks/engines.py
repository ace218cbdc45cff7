"""Part 2, the engines: a step under each, with nothing, with TensorBoard, with all trackers."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

from stepbus.cli.bench.comparison import CONTROL, compare, figures
from stepbus.cli.bench.pairing import LoopFailed, Steps, Training, measure
from stepbus.cli.bench.turns import LoopSpec, Turns
from stepbus.engine.bench.sizing import work_of

from .part import Part, Tell
from .trackers import FOUR, PEERS_HAVE, all_of_stepbus, installed, stepbus_trackers

PART = "engines"
RAW = "stepbus.engine.bench.loops:raw"
LOOPS = "benchmarks.engine_loops"
SLACK = 1.6
TURN_S = 0.06
DEADLINE_S = 300.0
"""For a turn of one loop: a dozen of them start at a time, and trackers take theirs, s."""
NOTE = """\
All loops train the same weights, bit for bit: data loader, clipping, schedule. With nothing \
attached each step is paired with a raw one of the same round; with subscribers each loop steps \
for some 60 ms without a pause before the next has its turn, and is frozen with all its threads \
and processes meanwhile."""


class Engine(NamedTuple):
    """One engine under comparison."""

    name: str
    function: str
    package: str


ENGINES = (
    Engine("stepbus TrainingRun", "run", "stepbus"),
    Engine("stepbus Trainer", "stepbus_trainer", "stepbus"),
    Engine("transformers Trainer", "transformers_trainer", "transformers"),
    Engine("Lightning Trainer", "lightning", "pytorch_lightning"),
    Engine("Ignite Engine", "ignite", "ignite"),
)
HAS = {"pytorch_lightning": "lightning"}


class Length(NamedTuple):
    """A length of step."""

    name: str
    step_s: float
    batch_size: int
    accumulation: int = 1


SHORT = Length("0.4 ms step", 0.0004, 16)
GROUPED = Length("4 x 0.4 ms micro-batches", 0.0004, 16, 4)
LONG = Length("5 ms step", 0.005, 64)


def run(quick: bool, tell: Tell) -> Part:
    """Measures this part."""
    part = Part(
        PART,
        "Engines: a whole step beside a loop written by hand that does the same work",
        notes=[NOTE],
    )
    there = [engine for engine in ENGINES if importlib.util.find_spec(engine.package)]
    part.gaps += [
        f"{engine.name}: not installed (pip install 'stepbus[bench]')"
        for engine in ENGINES
        if engine not in there
    ]
    _with_nothing(part, there, quick, tell)
    _with_trackers(part, there, quick, tell)
    return part


def _with_nothing(part: Part, there: Sequence[Engine], quick: bool, tell: Tell) -> None:
    lengths = [SHORT, LONG] if quick else [SHORT, GROUPED, LONG]
    counts = {SHORT: 80, LONG: 25} if quick else {SHORT: 300, GROUPED: 60, LONG: 70}
    trainings = []
    for length in lengths:
        turns = Turns(settling=3 if length is SHORT else 1, warm_up=50 if length is SHORT else 20)
        work = work_of(
            length.step_s,
            turns.steps(counts[length]),
            batch_size=length.batch_size,
            accumulation=length.accumulation,
        )
        trainings.append(Training(work, turns, count=counts[length]))
    specs = [
        LoopSpec(RAW, name="raw"),
        LoopSpec(RAW, name=CONTROL),
        *(LoopSpec(f"{LOOPS}:{engine.function}", name=engine.name) for engine in there),
    ]
    # Each repetition in fresh processes: what is luck in one is not in the next.
    repetitions = []
    for seed in range(1 if quick else 5):
        tell(f"engines with nothing attached, repetition {seed + 1}")
        repetitions.append(measure(specs, trainings, seed=seed, deadline_s=DEADLINE_S))
    for number, length in enumerate(lengths):
        taken = [repetition[number] for repetition in repetitions]
        check_equal([spec.name for spec in specs], taken)
        part.figures += compared(part.name, f"{length.name}, nothing attached", specs, taken)


def _with_trackers(part: Part, there: Sequence[Engine], quick: bool, tell: Tell) -> None:
    specs = [LoopSpec(RAW, name="raw"), LoopSpec(RAW, name=CONTROL)]
    specs += [
        LoopSpec(
            f"{LOOPS}:{engine.function}",
            {"displayed": True},
            f"{engine.name}, as it comes (progress, a log every 500 steps)",
        )
        for engine in there
        if engine.package in ("stepbus", "transformers")
        and not (quick and engine.function == "run")
    ]
    specs += [_logging(engine, ["tensorboard"]) for engine in there if "tensorboard" in installed()]
    if not quick:
        specs += _with_all(part, there)
    else:
        part.gaps.append(
            "more trackers than TensorBoard, and trackers at 5 ms: left out by --quick"
        )
    lengths = [SHORT] if quick else [SHORT, LONG]
    seconds = len(specs) * (1.2 if quick else 24.0)
    for length in lengths:
        # In fresh processes each: trackers keep things of a run that ended to themselves.
        tell(f"{length.name}: {len(specs)} loops with trackers")
        running = list(specs)
        steps = _measured(part, running, steady(length, seconds), tell)
        case = f"{length.name}, with subscribers"
        part.figures += compared(part.name, case, running, [steps])
        part.notes += _backlogs(length.name, running, steps)


def _measured(part: Part, specs: list[LoopSpec], training: Training, tell: Tell) -> list[Steps]:
    """The steps of each loop; a peer that fails is a gap, and is taken out of `specs`.

    Raises:
        LoopFailed: a loop failed that is not a peer's.
    """
    while True:
        try:
            (steps,) = measure(specs, [training], seed=0, deadline_s=DEADLINE_S, tell=tell)
        except LoopFailed as failure:
            if failure.loop.target == RAW or failure.loop.name.startswith("stepbus"):
                raise
            part.gaps.append(f"{failure.loop.name}: {str(failure).strip().splitlines()[-1]}")
            specs.remove(failure.loop)
        else:
            return steps


def steady(length: Length, seconds: float) -> Training:
    """A training of some length of step, for loops with subscribers, for so long altogether."""
    turns = Turns(
        settling=3,
        measured=max(2, round(TURN_S / length.step_s)),
        most_s=2 * TURN_S,
        warm_up=50,
        warm_up_most_s=3.0,
    )
    # However few loops there are: no loop has more than half of the time.
    most = int(SLACK * seconds / 2 / length.step_s)
    work = work_of(length.step_s, most + turns.steps(2), batch_size=length.batch_size)
    return Training(work, turns, seconds=seconds, unmeasured_s=seconds / 6)


def _with_all(part: Part, there: Sequence[Engine]) -> list[LoopSpec]:
    """The engines with all of the four trackers that they have and that are installed."""
    found = []
    for name in FOUR:
        if name not in installed():
            part.gaps.append(f"{name}: not installed (pip install 'stepbus[bench]')")
    for engine in there:
        has = stepbus_trackers() if engine.package == "stepbus" else PEERS_HAVE[_key(engine)]
        lacks = [name for name in FOUR if name not in has]
        if lacks:
            part.gaps.append(f"{engine.name} has nothing for {', '.join(lacks)}")
        names = installed(has)
        if len(names) > 1:
            found.append(_logging(engine, names))
    ours = all_of_stepbus()
    if len(ours) > len(FOUR):
        (trainer,) = [engine for engine in there if engine.function == "stepbus_trainer"]
        options = {"trackers": list(ours), "logging_steps": 1}
        name = f"{trainer.name}, all {len(ours)} trackers"
        found.append(LoopSpec(f"{LOOPS}:{trainer.function}", options, name))
    return found


def _key(engine: Engine) -> str:
    return HAS.get(engine.package, engine.package)


def _logging(engine: Engine, trackers: Sequence[str]) -> LoopSpec:
    options: dict[str, Any] = {"trackers": list(trackers), "logging_steps": 1}
    shown = "all four" if len(trackers) == len(FOUR) else " + ".join(trackers)
    return LoopSpec(f"{LOOPS}:{engine.function}", options, f"{engine.name}, {shown}")


def compared(
    part: str, case: str, specs: Sequence[LoopSpec], taken: Sequence[Sequence[Steps]]
) -> list[Any]:
    """The figures of all loops but the first, which is the raw one; the second is the control."""
    base = [steps[0] for steps in taken]
    rows = [
        compare(spec.name, [steps[place] for steps in taken], base)
        for place, spec in enumerate(specs)
        if place
    ]
    return [figure for row in rows for figure in figures(part, case, row, rows[0])]


def check_equal(names: Sequence[str], taken: Sequence[Sequence[Steps]]) -> None:
    """Raises RuntimeError where a loop has trained other weights than the raw one."""
    for repetition in taken:
        for name, steps in zip(names, repetition, strict=True):
            if steps.weights != repetition[0].weights:
                raise RuntimeError(f"{name} trained other weights than the loop by hand")


def _backlogs(length: str, specs: Sequence[LoopSpec], steps: Sequence[Steps]) -> list[str]:
    """What waited at the end, and what each subscriber sustains."""
    lines = []
    for spec, taken in zip(specs, steps, strict=True):
        for row in taken.facts.get("ledger", []):
            if row["handled"] > 100 and row["handler_s"]:
                rate = row["handled"] / row["handler_s"]
                lines.append(
                    f"{spec.name}, {length}: {row['subscriber']} took {row['handled']:,} events, "
                    f"{rate:,.0f}/s of its own time; {row['pending']:,} waited at the end"
                )
    return lines
