"""Part 6, on CUDA: steps, synchronisations and idle time beside the raw loop and transformers'."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import torch

from stepbus.cli.bench.comparison import CONTROL
from stepbus.cli.bench.figures import Figure
from stepbus.cli.bench.pairing import Training, measure
from stepbus.cli.bench.turns import LoopSpec, Turns
from stepbus.engine.bench.equal_work import Work

from .engines import compared
from .part import Part, Tell

PART = "cuda"
LOOPS = "benchmarks.cuda_work"
DEADLINE_S = 600.0
KINDS = {"launch-bound": "launch-bound step", "124M": "124M-parameter GPT in bf16"}
NOTE = """\
Steps by the clock of the host, in turns of many; the device is waited for before the next \
loop's turn. Synchronisations are those that torch reports on the training thread; idle time is \
what no kernel covers in a profile. Both are taken in passes of their own."""


def run(quick: bool, tell: Tell, *, device: str = "cuda") -> Part:
    """Measures this part; a gap where there is no such device."""
    part = Part(PART, "On CUDA", notes=[NOTE])
    if device == "cuda" and not torch.cuda.is_available():
        part.gaps.append("there is no CUDA device here: nothing of this part was run")
        return part
    loops = {"run": "stepbus TrainingRun", "stepbus_trainer": "stepbus Trainer"}
    if importlib.util.find_spec("transformers"):
        loops["transformers_trainer"] = "transformers Trainer"
    for kind, case in KINDS.items():
        tell(case)
        part.figures += _steps(kind, case, loops, device, quick)
        part.figures += _inspected(kind, case, loops, device)
    return part


def _steps(kind: str, case: str, loops: dict[str, str], device: str, quick: bool) -> list[Figure]:
    options = {"kind": kind, "device": device}
    specs = [
        LoopSpec(f"{LOOPS}:raw", options, "raw"),
        LoopSpec(f"{LOOPS}:raw", options, CONTROL),
        *(LoopSpec(f"{LOOPS}:{function}", options, name) for function, name in loops.items()),
    ]
    measured = 100 if kind == "launch-bound" else 20
    turns = Turns(settling=5, measured=measured, most_s=10.0, warm_up=30)
    seconds = len(specs) * (4.0 if quick else 25.0)
    work = Work(1, 100_000 if kind == "launch-bound" else 20_000)
    (taken,) = measure(
        specs, [Training(work, turns, seconds=seconds)], seed=0, deadline_s=DEADLINE_S
    )
    return compared(PART, case, specs, [taken])


def _inspected(kind: str, case: str, loops: dict[str, str], device: str) -> list[Figure]:
    base, again = _inspect("raw", kind, device), _inspect("raw", kind, device)
    idle_control = (again["idle"] - base["idle"]) * 100
    found = []
    for function, name in {"raw": "raw", **loops}.items():
        seen = base if function == "raw" else _inspect(function, kind, device)
        added = seen["synchronisations"] - base["synchronisations"]
        idle = (seen["idle"] - base["idle"]) * 100
        found += [
            Figure(PART, case, name, "synchronisations a step", seen["synchronisations"], ""),
            Figure(PART, case, name, "synchronisations added", added, "", control=0.0),
            Figure(PART, case, name, "GPU idle", seen["idle"] * 100, "points"),
            Figure(PART, case, name, "GPU idle added", idle, "points", control=idle_control),
        ]
    return found


def _inspect(loop: str, kind: str, device: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cuda_inspection", loop, kind, device],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"looking at {loop} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
