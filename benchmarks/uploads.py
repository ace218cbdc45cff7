"""Part 8, uploads: a step while a checkpoint is being uploaded all the time."""

from __future__ import annotations

from stepbus.cli.bench.comparison import CONTROL
from stepbus.cli.bench.pairing import measure
from stepbus.cli.bench.turns import LoopSpec

from .engines import DEADLINE_S, LONG, RAW, SHORT, compared, steady
from .part import Part, Tell

PART = "uploads"
LOOPS = "benchmarks.uploads_loops"
MB, QUICK_MB = 64, 4
LIMIT_MB_PER_S = 20.0
NOTE = """\
A checkpoint of one file goes to a folder of this machine, from the first step to the last: read, \
summed up, written, deleted, and again. Saving it is not in these steps. The disk and its caches \
are the training's too; a bucket behind a network takes more time of the sender and no disk."""


def run(quick: bool, tell: Tell) -> Part:
    """Measures this part."""
    part = Part(PART, "A step while a checkpoint is uploaded", notes=[NOTE])
    mb = QUICK_MB if quick else MB
    specs = _loops(mb)
    for length in [SHORT] if quick else [SHORT, LONG]:
        tell(f"{length.name}: {len(specs)} loops, uploads of {mb} MB")
        training = steady(length, len(specs) * (1.0 if quick else 15.0))
        (steps,) = measure(specs, [training], seed=0, deadline_s=DEADLINE_S)
        part.figures += compared(PART, f"{length.name}, uploading", specs, [steps])
        part.notes += [
            f"{spec.name}, {length.name}: {each.facts['uploaded_mb']:,} MB were uploaded"
            for spec, each in zip(specs, steps, strict=True)
            if "uploaded_mb" in each.facts
        ]
    part.gaps.append("to a bucket: a server beside the loops would take the cores of both")
    if quick:
        part.gaps.append("5 ms steps: left out by --quick")
    return part


def _loops(mb: int) -> list[LoopSpec]:
    uploading = f"{LOOPS}:uploading"
    limited = {"mb": mb, "where": "process", "max_mb_per_s": LIMIT_MB_PER_S}
    return [
        LoopSpec(RAW, name="raw"),
        LoopSpec(RAW, name=CONTROL),
        LoopSpec("stepbus.cli.bench.variants:alone", {"logging_steps": 0}, "stepbus, no upload"),
        LoopSpec(f"{LOOPS}:copying", {"mb": mb}, "by hand, a thread that copies"),
        LoopSpec(uploading, {"mb": mb, "where": "process"}, "stepbus, process"),
        LoopSpec(uploading, limited, f"stepbus, process, {LIMIT_MB_PER_S:.0f} MB/s"),
        LoopSpec(uploading, {"mb": mb, "where": "thread"}, "stepbus, thread"),
    ]
