"""One training loop in a process of its own, which steps only when it is its turn.

`python -m benchmarks.turns SPEC`, started by `pairing`. The loop runs as it always does, on its
main thread; at the top of a step, inside of the data loader, it hands the turn back and waits for
the next one. What a step took is from one such place to the next, without the waiting.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .equal_work import Work, digest
from .loops import LOOPS

READY, GO = b"r", b"g"


@dataclass(frozen=True)
class Turns:
    """How the steps of one training are measured."""

    count: int
    """Turns; each measures one step."""
    settling: int = 3
    """Steps at the start of a turn that are not measured: they warm up what others displaced."""
    warm_up: int = 50
    """Steps before the first turn."""

    @property
    def steps(self) -> int:
        """Steps in all; two to spare, since a loader may be ahead of its loop."""
        return self.warm_up + self.count * (self.settling + 1) + 2


class Turnstile:
    """Lets one loop step when it is its turn, and times its steps.

    Args:
        turns: how many.
        inbox: pipe from whoever gives the turns.
        outbox: pipe to there.
    """

    def __init__(self, turns: Turns, inbox: int, outbox: int) -> None:
        self._turns = turns
        self._inbox = inbox
        self._outbox = outbox
        self._left = turns.warm_up
        self._is_warm = False
        self._started_s = self._started_cpu_s = 0.0
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []
        """Time of the training thread itself on a core."""

    def __call__(self) -> None:
        """At the top of each step."""
        wall_s, cpu_s = time.perf_counter(), time.thread_time()
        self._left -= 1
        if self._left == 0:
            if self._is_warm:
                self.wall_s.append(wall_s - self._started_s)
                self.cpu_s.append(cpu_s - self._started_cpu_s)
            self._is_warm = True
            self._wait()
        if self._left == 1:
            self._started_cpu_s = time.thread_time()
            self._started_s = time.perf_counter()

    def _wait(self) -> None:
        if len(self.wall_s) < self._turns.count:
            self._left = self._turns.settling + 1
        os.write(self._outbox, READY)
        if os.read(self._inbox, 1) != GO:
            raise SystemExit("whoever measures is gone")


def specification(
    loop: str, trainings: Sequence[tuple[Work, Turns]], inbox: int, outbox: int, result: Path
) -> str:
    """The argument of `python -m benchmarks.turns`."""
    return json.dumps(
        {
            "loop": loop,
            "trainings": [(asdict(work), asdict(turns)) for work, turns in trainings],
            "inbox": inbox,
            "outbox": outbox,
            "result": str(result),
        }
    )


def main() -> None:
    """Does the trainings of the specification, one after the other; writes what was measured."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    results = []
    for work, turns in spec["trainings"]:
        turnstile = Turnstile(Turns(**turns), spec["inbox"], spec["outbox"])
        model = LOOPS[spec["loop"]](Work(**work), turnstile)
        results.append(
            {"wall_s": turnstile.wall_s, "cpu_s": turnstile.cpu_s, "weights": digest(model)}
        )
    Path(spec["result"]).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
