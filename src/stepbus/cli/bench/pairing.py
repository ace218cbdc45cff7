"""Several training loops measured step beside step: one steps, all others stand still.

Each has a process of its own, and with it its own interpreter lock, heap and garbage collector, as
it sets them itself. Between its turns a loop is frozen with all that it started (threads, trackers'
processes), so that what works beside the step works beside its own steps only. Two processes that
run the same loop may differ by some per cent for all of their lives (where the heap lies, in which
order sets are walked): so a measurement is repeated in fresh processes, and a loop named twice is
its own control.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...engine.bench.equal_work import Work
from ...schemas.errors import StepbusError
from .freezing import descendants, freeze, thaw
from .leaving import cleanly_on_sigterm
from .turns import END, FINISH, GO, READY, LoopSpec, Turns, specification

DEADLINE_S = 90.0
LEAST_S = 2.0
"""What a training is measured for at least, however late it is, s."""
LEAVE_S = 10.0
"""How long loops that were told to leave may take before they are ended, s."""


@dataclass(frozen=True)
class Training:
    """What all loops do, and for how long they are measured."""

    work: Work
    turns: Turns
    count: int | None = None
    """Turns of each loop, after which each runs to its end; None: as many as there is time for."""
    seconds: float = 0.0
    """How long all of them are measured together, s; then they are left where they are."""
    unmeasured_s: float = 0.0
    """At the start of that time, what passes before what is measured counts, s."""


class Steps(NamedTuple):
    """What the steps of one loop took: the nth turn of each loop was taken in the same round."""

    wall_s: list[list[float]]
    cpu_s: list[list[float]]
    """On a core, by the training thread."""
    weights: str
    """A sum over the trained weights; empty where the loop was left before its end."""
    facts: dict[str, Any]
    """What the loop told of itself."""


class LoopFailed(StepbusError):
    """A loop under measurement failed; the message has what it said.

    Args:
        loop: which.
        message: what to tell.
    """

    def __init__(self, loop: LoopSpec, message: str) -> None:
        super().__init__(f"the loop {loop.name or loop.target} {message}")
        self.loop = loop


class LoopProcess:
    """One loop in a process of its own, and the turns it gets.

    Args:
        loop: which, and how.
        trainings: what it does, one after the other.
        folder: for what it writes; nobody else's.
        deadline_s: it has failed when it does not come to the end of its turn in this time, s.
    """

    def __init__(
        self, loop: LoopSpec, trainings: Sequence[Training], folder: Path, deadline_s: float
    ) -> None:
        self.loop = loop
        self._deadline_s = deadline_s
        self._result = folder / "result.json"
        self._said = folder / "said.txt"
        self._frozen: list[int] = []
        inbox, self._give = os.pipe()
        self._take, outbox = os.pipe()
        plan = [(training.work, training.turns) for training in trainings]
        spec = specification(loop, plan, inbox, outbox, self._result)
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "stepbus.cli.bench.turns", spec],
                pass_fds=(inbox, outbox),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            )
        os.close(inbox)
        os.close(outbox)

    def await_turn(self) -> None:
        """Waits until it stands at the top of a step.

        Raises:
            LoopFailed: it ended before, or took too long.
        """
        if not select.select([self._take], [], [], self._deadline_s)[0]:
            raise LoopFailed(self.loop, f"did not step within {self._deadline_s:.0f} s")
        if os.read(self._take, 1) != READY:
            self._fail()

    def freeze(self) -> None:
        """Makes it stand still with all that it started."""
        self._frozen = freeze(self._process.pid)

    def give_turn(self, command: bytes = GO) -> None:
        """Lets it step, or tells it to leave or to run on by itself."""
        thaw(self._frozen)
        self._frozen = []
        with contextlib.suppress(BrokenPipeError):
            os.write(self._give, command)

    def results(self, until_s: float) -> list[Steps]:
        """What it measured in each training, once it has ended or time.monotonic() is `until_s`.

        Raises:
            LoopFailed: it failed, or wrote nothing in time.
        """
        try:
            code = self._process.wait(max(0.1, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            # It has been measured; what it still drains is no part of that.
            code = 0
        if code != 0 or not self._result.exists():
            self._fail()
        results = json.loads(self._result.read_text(encoding="utf-8"))
        return [Steps(**result) for result in results]

    def close(self) -> None:
        """Ends it and what it started, if they have not ended."""
        left = [] if self._process.poll() is not None else descendants(self._process.pid)
        thaw(self._frozen)
        self._process.kill()
        self._process.wait()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        os.close(self._give)
        os.close(self._take)

    def _fail(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        said = self._said.read_text(encoding="utf-8", errors="replace").strip()
        raise LoopFailed(self.loop, f"failed:\n{said[-4000:]}")


def measure(
    loops: Sequence[LoopSpec],
    trainings: Sequence[Training],
    *,
    seed: int,
    until_s: float = math.inf,
    deadline_s: float = DEADLINE_S,
    tell: Callable[[str], object] = lambda text: None,
) -> list[list[Steps]]:
    """The steps of each loop in each training: `[training][loop]`.

    In each round every loop has one turn, in an order drawn anew.

    Args:
        loops: which; one may be named twice.
        trainings: what all of them do.
        seed: of the orders.
        until_s: when all of it should be over (time.monotonic): trainings that are measured for a
            time get less of it then, and a little at least.
        deadline_s: a loop that does not end its turn in this time has failed, s.
        tell: called with what is being done.

    Raises:
        LoopFailed: a loop failed.
    """
    order = random.Random(seed)
    with contextlib.ExitStack() as resources:
        resources.enter_context(cleanly_on_sigterm())
        processes = []
        for loop in loops:
            folder = Path(resources.enter_context(tempfile.TemporaryDirectory()))
            process = LoopProcess(loop, trainings, folder, deadline_s)
            resources.callback(process.close)
            processes.append(process)
        skipped = []
        for number, training in enumerate(trainings, 1):
            tell(f"starting {len(loops)} loops ({number} of {len(trainings)})")
            for process in processes:
                process.await_turn()
                process.freeze()
            tell(f"measuring {len(loops)} loops in turns")
            left_s = (until_s - time.monotonic()) / (len(trainings) - number + 1)
            most_s = min(training.seconds, max(LEAST_S, left_s))
            skipped.append(_take_turns(processes, training, most_s, order))
        last = trainings[-1]
        at_s = time.monotonic() + (LEAVE_S if last.count is None else deadline_s)
        by_loop = [process.results(at_s) for process in processes]
    return [
        [_without(steps, skip) for steps in each]
        for each, skip in zip(zip(*by_loop, strict=True), skipped, strict=True)
    ]


def _take_turns(
    processes: Sequence[LoopProcess], training: Training, most_s: float, order: random.Random
) -> int:
    """Rounds of turns; how many of the first do not count."""
    begun_s = time.monotonic()
    unmeasured_s = min(training.unmeasured_s, most_s / 4)
    turn = list(processes)
    rounds = skipped = 0
    while not _is_over(training, rounds, skipped, time.monotonic() - begun_s, most_s):
        if time.monotonic() - begun_s < unmeasured_s:
            skipped += 1
        order.shuffle(turn)
        for process in turn:
            process.give_turn()
            process.await_turn()
            process.freeze()
        rounds += 1
    for process in processes:
        process.give_turn(END if training.count is None else FINISH)
    return skipped


def _is_over(training: Training, rounds: int, skipped: int, past_s: float, most_s: float) -> bool:
    if training.count is not None:
        return rounds >= training.count
    # Never without a round that counts.
    return past_s >= most_s and rounds > skipped


def _without(steps: Steps, skipped: int) -> Steps:
    return steps._replace(wall_s=steps.wall_s[skipped:], cpu_s=steps.cpu_s[skipped:])
