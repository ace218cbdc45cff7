"""Part 3, hostile subscribers: what one does to the step, by delivery and as people write it."""

from __future__ import annotations

from dataclasses import asdict

from stepbus.cli.bench.comparison import CONTROL
from stepbus.cli.bench.pairing import measure
from stepbus.cli.bench.subject import WHERE, Subject, refusals
from stepbus.cli.bench.turns import LoopSpec

from .engines import DEADLINE_S, LONG, RAW, SHORT, compared, steady
from .part import Part, Tell

PART = "hostile"
VARIANTS = "stepbus.cli.bench.variants:delivered"
KINDS = {
    "sleeps": ("benchmarks.hostile_subscribers:Sleeper", "sleeps 20 ms per event"),
    "burns": ("benchmarks.hostile_subscribers:Burner", "burns 5 ms of Python per event"),
}
DIES_AFTER = 2_000
LIVES = (("left alone", 0), ("killed", DIES_AFTER))
NOTE = """\
One event a step. A thread that burns Python holds the interpreter lock for milliseconds now and \
then: look at the mean and the p99, the median may not show it. Where the second core is busy \
with other programs, part of that harm is hidden."""


def run(quick: bool, tell: Tell) -> Part:
    """Measures this part."""
    part = Part(PART, "Hostile subscribers, by delivery", notes=[NOTE])
    lengths = [SHORT] if quick else [SHORT, LONG]
    for kind, (target, title) in KINDS.items():
        if quick and kind == "sleeps":
            continue
        specs = _loops(part, kind, target)
        seconds = len(specs) * (1.0 if quick else 12.0)
        for length in lengths:
            # In fresh processes each: what a backlog does to the heap slows the next training.
            tell(f"{length.name}: a subscriber that {title}")
            training = steady(length, seconds)
            (steps,) = measure(specs, [training], seed=0, deadline_s=DEADLINE_S)
            part.figures += compared(PART, f"{length.name}, {title}", specs, [steps])
            for spec, each in zip(specs, steps, strict=True):
                part.notes += [
                    f"{spec.name}, {title}, {length.name}: {row['handled']:,} events handled, "
                    f"{row['pending']:,} waited at the end"
                    for row in each.facts.get("ledger", [])
                    if row["subscriber"] == "subject"
                ]
    if quick:
        part.gaps.append(
            "one that sleeps, one whose process is killed, and 5 ms steps: left out by --quick"
        )
    else:
        _deaths(part, tell)
    return part


def _deaths(part: Part, tell: Tell) -> None:
    """A step whose subscriber's process is killed again and again, beside one where it is not."""
    title = f"its process killed after every {DIES_AFTER:,} events"
    options = {"logging_steps": 0, "where": "process"}
    target = "benchmarks.hostile_subscribers:Mortal"
    mortal = {
        name: asdict(Subject(target, "subscriber", {"after": after})) for name, after in LIVES
    }
    specs = [LoopSpec(RAW, name="raw"), LoopSpec(RAW, name=CONTROL)]
    specs += [
        LoopSpec(VARIANTS, options | {"subject": subject}, f"stepbus, process, {name}")
        for name, subject in mortal.items()
    ]
    tell(f"a subscriber with {title}")
    (steps,) = measure(specs, [steady(SHORT, len(specs) * 15.0)], seed=0, deadline_s=DEADLINE_S)
    part.figures += compared(PART, f"{SHORT.name}, {title}", specs, [steps])
    for spec, each in zip(specs, steps, strict=True):
        part.notes += [
            f"{spec.name}: {row['handled']:,} events handled, some of them twice, "
            f"{sum(row['dropped'].values()):,} dropped, {row['pending']:,} waited at the end"
            for row in each.facts.get("ledger", [])
            if row["subscriber"] == "subject"
        ]


def _loops(part: Part, kind: str, target: str) -> list[LoopSpec]:
    subject = Subject(target, "subscriber")
    refused = refusals(subject)
    specs = [
        LoopSpec(RAW, name="raw"),
        LoopSpec(RAW, name=CONTROL),
        LoopSpec("benchmarks.naive:inline", {"handler": kind}, "by hand, inline"),
        LoopSpec("benchmarks.naive:queue_and_thread", {"handler": kind}, "by hand, queue + thread"),
    ]
    for where in WHERE:
        if where in refused:
            part.gaps.append(f"stepbus, {where}: {refused[where]}")
            continue
        options = {"logging_steps": 0, "subject": asdict(subject), "where": where}
        specs.append(LoopSpec(VARIANTS, options, f"stepbus, {where}"))
    return specs
