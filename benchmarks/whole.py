"""Part 2b, whole trainings: `train()` from its call to its return, set-up and drain in."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

from stepbus.cli.bench.figures import Figure
from stepbus.engine.bench.equal_work import Work
from stepbus.engine.bench.sizing import work_of

from .engines import LONG
from .part import Part, Tell
from .trackers import FOUR, installed, stepbus_trackers

PART = "whole"
STEPS, QUICK_STEPS = 4_000, 200
DEADLINE_S = 300
NOTE = """\
The call of the loop, in a process of its own each time, the loop by hand and the Trainer by \
turns: making the data is in both, importing the packages is in neither. The control is the \
difference of the loop by hand from itself."""
PROGRAM = """\
import importlib, json, sys, time
import torch
from stepbus.engine.bench.equal_work import Work
from stepbus.engine.bench.loops import StepWatch
torch.set_num_threads(1)
target, options, work = json.loads(sys.argv[1])
module, _, name = target.partition(":")
loop = getattr(importlib.import_module(module), name)
started = time.perf_counter()
loop(Work(**work), StepWatch(), **options)
print("\\n" + json.dumps(time.perf_counter() - started))
"""


def run(quick: bool, tell: Tell) -> Part:
    """Measures this part."""
    part = Part(PART, "Whole trainings, from call to return", notes=[NOTE])
    names = installed(stepbus_trackers())
    lacks = [name for name in FOUR if name not in names]
    if lacks:
        part.gaps.append(f"train() with all four trackers: stepbus has nothing for {lacks} here")
    steps = QUICK_STEPS if quick else STEPS
    work = work_of(LONG.step_s, steps, batch_size=LONG.batch_size)
    raw: list[float] = []
    ours: list[float] = []
    options = {"trackers": names, "logging_steps": 1}
    for repetition in range(1 if quick else 3):
        tell(f"whole trainings, repetition {repetition + 1}")
        raw.append(_seconds("stepbus.engine.bench.loops:raw", {}, work))
        ours.append(_seconds("benchmarks.engine_loops:stepbus_trainer", options, work))
        raw.append(_seconds("stepbus.engine.bench.loops:raw", {}, work))
    base = statistics.median(raw)
    case = f"{steps:,} steps of 5 ms"
    floor = max(raw) - min(raw)
    subject = f"stepbus Trainer, {' + '.join(names)}"
    over = statistics.median(ours) - 1.05 * base
    part.figures = [
        Figure(PART, case, "raw", "s", base, "s", interval=(min(raw), max(raw))),
        Figure(PART, case, subject, "s", statistics.median(ours), "s", control=None, floor=floor),
        Figure(PART, case, subject, "s over 1.05 x raw", over, "s", floor=floor),
    ]
    return part


def _seconds(target: str, options: dict[str, Any], work: Work) -> float:
    spec = json.dumps([target, options, vars(work)])
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, spec],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if done.returncode != 0:
        spent = time.perf_counter() - started
        raise RuntimeError(f"{target} failed after {spent:.0f} s:\n{done.stdout}{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))
