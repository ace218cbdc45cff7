"""`python -m benchmarks.cuda_inspection LOOP KIND DEVICE`: what one loop makes a device wait for.

Prints synchronising calls on the training thread a step, as torch reports them, and the share of
the time in which no kernel ran. Each has a pass of its own, since looking costs time.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from typing import Any

import torch

from stepbus.engine.bench.equal_work import Work
from stepbus.engine.bench.loops import StepWatch, TurnsOver

from . import cuda_work

WARM, LOOKED_AT = 30, 60


class Inspection(StepWatch):
    """Looks at some steps after the first, then has the loop left."""

    def __init__(self) -> None:
        super().__init__()
        self._step = 0

    def __call__(self) -> None:
        """The next step begins."""
        self._step += 1
        if self._step == WARM:
            self.begin()
        elif self._step == WARM + LOOKED_AT:
            self.end()
            raise TurnsOver

    def begin(self) -> None:
        """Starts to look."""

    def end(self) -> None:
        """Has seen enough."""


class Synchronisations(Inspection):
    """Counts the synchronising calls that torch reports on the training thread."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._thread = threading.get_ident()

    def begin(self) -> None:
        """Has torch warn of them. The mode is the process's; other threads are not counted."""
        warnings.simplefilter("always")
        warnings.showwarning = self._note
        torch.cuda.set_sync_debug_mode("warn")

    def end(self) -> None:
        """Has torch be silent again."""
        torch.cuda.set_sync_debug_mode("default")

    def _note(self, message: Any, *_: Any, **__: Any) -> None:
        if threading.get_ident() == self._thread and "synchroniz" in str(message):
            self.count += 1


class Idleness(Inspection):
    """Finds the time in which no kernel ran, from a profile."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = 0.0
        self._begun_s = 0.0
        self._profile = torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True
        )

    def begin(self) -> None:
        """Starts the profile."""
        torch.cuda.synchronize()
        self._profile.start()
        self._begun_s = time.perf_counter()

    def end(self) -> None:
        """Adds up what ran."""
        torch.cuda.synchronize()
        seconds = time.perf_counter() - self._begun_s
        self._profile.stop()
        ranges = [
            (event.time_range.start, event.time_range.end)
            for event in self._events()
            if event.device_type.name == "CUDA"
        ]
        self.idle = 1 - covered(ranges) / 1e6 / seconds

    def _events(self) -> Iterable[Any]:
        return self._profile.events() or ()  # type: ignore[no-untyped-call]


def covered(ranges: Iterable[tuple[float, float]]) -> float:
    """The length that some ranges cover together; where they overlap it counts once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(ranges):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def main() -> None:
    """Looks at one loop and prints what was found."""
    loop, kind, device = sys.argv[1:]
    torch.set_num_threads(1)
    work = Work(1, WARM + LOOKED_AT + 10)
    found: dict[str, float] = {}
    synchronisations, idleness = Synchronisations(), Idleness()
    for watch in (synchronisations, idleness):
        with contextlib.suppress(TurnsOver):
            getattr(cuda_work, loop)(work, watch, kind=kind, device=device)
    found["synchronisations"] = synchronisations.count / LOOKED_AT
    found["idle"] = idleness.idle
    print(json.dumps(found))


if __name__ == "__main__":
    main()
