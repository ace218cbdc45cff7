"""One training loop in a process of its own, which steps only when it is its turn.

`python -m stepbus.cli.bench.turns SPEC`, started by `pairing`. The loop runs as it always does, on
its main thread; at the top of a step, inside of the data loader, it hands the turn back and waits
for the next one. What a step took is from one such place to the next, without the waiting.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from ...engine.bench.equal_work import Work, digest
from ...engine.bench.loops import Loop, StepWatch, TurnsOver
from .leaving import end_with

READY, GO, FINISH, END = b"r", b"g", b"f", b"e"
"""From the loop: it stands at the top of a step. To it: step on; run to your end; leave."""


@dataclass(frozen=True)
class Turns:
    """How the steps of one training are measured."""

    settling: int = 3
    """Steps at the start of a turn that are not measured: they warm up what others displaced."""
    measured: int = 1
    """Steps of a turn that are, one after the other."""
    most_s: float = 60.0
    """A turn ends at the first step after this, however few were measured, s."""
    warm_up: int = 50
    """Steps before the first turn, at least 1."""
    warm_up_most_s: float = 60.0
    """The first turn comes at the first step after this, however few went before, s."""

    def steps(self, count: int) -> int:
        """Steps of `count` turns; two to spare, since a loader may be ahead of its loop."""
        return self.warm_up + count * (self.settling + self.measured) + 2


class Turnstile(StepWatch):
    """Lets one loop step when it is its turn, and times its steps.

    Args:
        turns: what a turn is.
        inbox: pipe from whoever gives the turns.
        outbox: pipe to there.
    """

    def __init__(self, turns: Turns, inbox: int, outbox: int) -> None:
        super().__init__()
        self._turns = turns
        self._inbox = inbox
        self._outbox = outbox
        self._skip = turns.warm_up
        self._in_turns = False
        self._is_free = False
        self.was_left = False
        """The loop was told to leave before its end."""
        self._begun_s = 0.0
        self._stamps: list[tuple[float, float]] = []
        self.wall_s: list[list[float]] = []
        """What the measured steps took, a list for each turn."""
        self.cpu_s: list[list[float]] = []
        """Of that, on a core, by the training thread itself."""

    def __call__(self) -> None:
        """At the top of each step.

        Raises:
            TurnsOver: whoever measures has seen enough.
        """
        if self._is_free:
            return
        stamp = time.perf_counter(), time.thread_time()
        if self._stamps:
            self._stamps.append(stamp)
            late = stamp[0] - self._begun_s >= self._turns.most_s
            if len(self._stamps) <= self._turns.measured and not late:
                return
            self._note()
            self._hand_over()
        elif self._skip:
            self._skip -= 1
            if not self._in_turns and self._is_warm(stamp[0]):
                self._skip = 0
            if self._skip:
                return
            if not self._in_turns:
                self._in_turns = True
                self._hand_over()
        if not self._skip:
            # Read again: handing over, and this call, are no part of the step.
            self._stamps.append((time.perf_counter(), time.thread_time()))

    def _is_warm(self, now_s: float) -> bool:
        self._begun_s = self._begun_s or now_s
        return now_s - self._begun_s >= self._turns.warm_up_most_s

    def _note(self) -> None:
        pairs = list(itertools.pairwise(self._stamps))
        self.wall_s.append([after[0] - before[0] for before, after in pairs])
        self.cpu_s.append([after[1] - before[1] for before, after in pairs])
        self._stamps = []

    def _hand_over(self) -> None:
        self.before_waiting()
        os.write(self._outbox, READY)
        told = os.read(self._inbox, 1)
        self._begun_s = time.perf_counter()
        self._skip = self._turns.settling
        self._is_free = told == FINISH
        if told not in (GO, FINISH):
            self.was_left = True
            raise TurnsOver


@dataclass(frozen=True)
class LoopSpec:
    """Which loop a process runs: a function `module:name`, and plain keyword arguments."""

    target: str
    options: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    """What reports call it."""


def specification(
    loop: LoopSpec, trainings: Sequence[tuple[Work, Turns]], inbox: int, outbox: int, result: Path
) -> str:
    """The argument of `python -m stepbus.cli.bench.turns`."""
    return json.dumps(
        {
            "target": loop.target,
            "options": loop.options,
            "trainings": [(asdict(work), asdict(turns)) for work, turns in trainings],
            "inbox": inbox,
            "outbox": outbox,
            "result": str(result),
            "parent": os.getpid(),
        }
    )


def main() -> None:
    """Does the trainings of the specification, one after the other; writes what was measured."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    end_with(spec["parent"])
    torch.set_num_threads(1)
    module, _, name = spec["target"].partition(":")
    loop: Loop = getattr(importlib.import_module(module), name)
    results = []
    for work, turns in spec["trainings"]:
        turnstile = Turnstile(Turns(**turns), spec["inbox"], spec["outbox"])
        model = None
        with contextlib.suppress(TurnsOver):
            model = loop(Work(**work), turnstile, **spec["options"])
        results.append(
            {
                "wall_s": turnstile.wall_s,
                "cpu_s": turnstile.cpu_s,
                "weights": "" if model is None or turnstile.was_left else digest(model),
                "facts": turnstile.facts,
            }
        )
        # Whole after each: a later training may fail.
        Path(spec["result"]).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
