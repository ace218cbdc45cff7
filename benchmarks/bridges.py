"""Part 7, bridges: trainers of others with stepbus behind them, beside the same without it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

from stepbus.cli.bench.pairing import measure
from stepbus.cli.bench.turns import LoopSpec

from .engines import DEADLINE_S, LONG, SHORT, Length, compared, steady
from .part import Part, Tell
from .trackers import PEERS_HAVE, installed, stepbus_trackers

PART = "bridges"
AGAIN = "bare, once more"
NOTE = """\
The ratios are to the same trainer with nothing attached, not to the loop by hand; it logs as \
often, to nobody. Its own trackers work on the training thread, those behind the bridge in \
another process."""


class Bridged(NamedTuple):
    """A trainer that has a bridge."""

    name: str
    package: str
    plain: str
    bridged: str
    has: str
    """Whose trackers these are, in `PEERS_HAVE`."""


TRAINERS = (
    Bridged(
        "transformers Trainer",
        "transformers",
        "benchmarks.engine_loops:transformers_trainer",
        "benchmarks.bridge_loops:transformers_bridged",
        "transformers",
    ),
    Bridged(
        "Lightning Trainer",
        "pytorch_lightning",
        "benchmarks.engine_loops:lightning",
        "benchmarks.bridge_loops:lightning_bridged",
        "lightning",
    ),
)


def run(quick: bool, tell: Tell) -> Part:
    """Measures this part."""
    part = Part(PART, "Bridges: a trainer of others beside itself with stepbus", notes=[NOTE])
    for trainer in TRAINERS:
        if importlib.util.find_spec(trainer.package) is None:
            part.gaps.append(f"{trainer.name}: not installed (pip install 'stepbus[bench]')")
            continue
        if quick and trainer is not TRAINERS[0]:
            part.gaps.append(f"{trainer.name}: left out by --quick")
            continue
        for logging_steps, what in ((0, "nobody listening"), (1, "logging each step")):
            if quick and not logging_steps:
                part.gaps.append("nobody listening, and all its own trackers: left out by --quick")
                continue
            specs = _loops(trainer, logging_steps, quick=quick)
            for length in [SHORT] if quick else [SHORT, LONG]:
                case = f"{length.name}, {trainer.name}, {what}"
                tell(case)
                part.figures += _figures(case, specs, length, 1.0 if quick else 22.0)
    return part


def _figures(case: str, specs: Sequence[LoopSpec], length: Length, seconds: float) -> list[Any]:
    training = steady(length, len(specs) * seconds)
    (steps,) = measure(specs, [training], seed=0, deadline_s=DEADLINE_S)
    return compared(PART, case, specs, [steps])


def _loops(trainer: Bridged, logging_steps: int, *, quick: bool) -> list[LoopSpec]:
    bare: dict[str, Any] = {"logging_steps": logging_steps}
    specs = [LoopSpec(trainer.plain, bare, "bare"), LoopSpec(trainer.plain, bare, AGAIN)]
    if not logging_steps:
        return [*specs, LoopSpec(trainer.bridged, bare, "stepbus bridge, nobody listening")]
    own = installed(PEERS_HAVE[trainer.has])
    for names in [own[:1], own] if len(own) > 1 and not quick else [own[:1]]:
        shown = " + ".join(names)
        specs.append(LoopSpec(trainer.plain, bare | {"trackers": names}, f"its own {shown}"))
    ours = installed(stepbus_trackers())
    shown = " + ".join(ours)
    specs.append(LoopSpec(trainer.bridged, bare | {"trackers": ours}, f"stepbus bridge, {shown}"))
    return specs
