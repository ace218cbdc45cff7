"""Part 5, growth: what a step costs at step 1,000,000, beside what it costs at step 1,000."""

from __future__ import annotations

from stepbus.cli.bench.pairing import Training, measure
from stepbus.cli.bench.turns import LoopSpec, Turns
from stepbus.engine.bench.sizing import work_of

from .engines import compared
from .part import Part, Tell

PART = "growth"
YOUNG, OLD, QUICK_OLD = 1_000, 1_000_000, 100_000
LOOPS = "benchmarks.aged_loops"
DEADLINE_S = 900.0
NOTE = """\
One run has got to its step for real: every step was announced, counted, logged at every tenth, \
and handed to a subscriber; only the model was left out of it, since nothing in stepbus knows \
whether a model was there. From then on both do whole steps, in turns; the young run twice is \
the control. The second case has no model in the measured steps either: it is what stepbus \
itself costs."""


def run(quick: bool, tell: Tell) -> Part:
    """Measures this part."""
    part = Part(PART, "Growth: a step late in a run beside one early in it", notes=[NOTE])
    old = QUICK_OLD if quick else OLD
    specs = [
        LoopSpec(f"{LOOPS}:aged", {"age": YOUNG}, f"at step {YOUNG:,}"),
        LoopSpec(f"{LOOPS}:aged", {"age": YOUNG}, f"at step {YOUNG:,}, once more"),
        LoopSpec(f"{LOOPS}:aged", {"age": old}, f"at step {old:,}"),
    ]
    bare = [LoopSpec(f"{LOOPS}:aged", each.options | {"bare": True}, each.name) for each in specs]
    seconds = 5.0 if quick else 60.0
    for chosen, case, turns in (
        (specs, "0.4 ms step", Turns(settling=3, measured=20, warm_up=50)),
        (bare, "a step without a model", Turns(settling=20, measured=200, warm_up=200)),
    ):
        if quick and chosen is bare:
            part.gaps.append(f"{case}: left out by --quick")
            continue
        tell(f"growth: {case}; a run gets to step {old:,} first")
        step_s = 0.0004 if chosen is specs else 0.00002
        most = int(seconds / step_s) + turns.steps(2)
        size = work_of(0.0004, 20_000 if chosen is bare else most)
        training = Training(size, turns, seconds=seconds)
        (taken,) = measure(chosen, [training], seed=0, deadline_s=DEADLINE_S)
        part.figures += compared(PART, case, chosen, [taken])
        for spec, steps in zip(chosen, taken, strict=True):
            facts = steps.facts
            part.notes.append(
                f"{case}, {spec.name}: {facts['log_rows']:,} logs so far, {facts['mb']:.0f} MB"
            )
    return part
