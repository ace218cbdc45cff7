"""Several training loops measured step beside step: one steps, all others stand still.

Each has a process of its own, and with it its own interpreter lock, heap and garbage collector, as
it sets them itself. Two processes that run the same loop may differ by some per cent for all of
their lives (where the heap lies, in which order sets are walked): so a measurement is repeated in
fresh processes, and a loop named twice is its own control.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .equal_work import Work
from .turns import GO, READY, Turns, specification

Training = tuple[Work, Turns]


class Steps(NamedTuple):
    """What the steps of one loop took: the nth of each loop were taken in the same round."""

    wall_s: list[float]
    cpu_s: list[float]
    """On a core, by the training thread."""
    weights: str
    """A sum over the trained weights."""


class LoopProcess:
    """One loop in a process of its own, and the turns it gets.

    Args:
        loop: a name of `LOOPS`.
        trainings: what it does, one after the other.
        folder: for what it writes; nobody else's.
    """

    def __init__(self, loop: str, trainings: Sequence[Training], folder: Path) -> None:
        self._loop = loop
        self._result = folder / "result.json"
        self._said = folder / "said.txt"
        inbox, self._give = os.pipe()
        self._take, outbox = os.pipe()
        spec = specification(loop, trainings, inbox, outbox, self._result)
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.turns", spec],
                pass_fds=(inbox, outbox),
                stdout=said,
                stderr=said,
                env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            )
        os.close(inbox)
        os.close(outbox)

    def await_turn(self) -> None:
        """Waits until it stands at the top of a step.

        Raises:
            RuntimeError: it failed.
        """
        if os.read(self._take, 1) != READY:
            self._fail()

    def give_turn(self) -> None:
        """Lets it step."""
        os.write(self._give, GO)

    def results(self) -> list[Steps]:
        """What it measured in each training, once it has ended.

        Raises:
            RuntimeError: it failed.
        """
        if self._process.wait() != 0:
            self._fail()
        results = json.loads(self._result.read_text(encoding="utf-8"))
        return [Steps(**result) for result in results]

    def close(self) -> None:
        """Ends it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        os.close(self._give)
        os.close(self._take)

    def _fail(self) -> None:
        self._process.wait()
        said = self._said.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the loop {self._loop} failed:\n{said[-4000:]}")


def measure(loops: Sequence[str], trainings: Sequence[Training], *, seed: int) -> list[list[Steps]]:
    """The steps of each loop in each training: `[training][loop]`.

    In each round every loop has one turn, in an order drawn anew.

    Args:
        loops: names of `LOOPS`; one may be named twice.
        trainings: what all of them do.
        seed: of the orders.

    Raises:
        RuntimeError: a loop failed.
    """
    order = random.Random(seed)
    with contextlib.ExitStack() as resources:
        processes = []
        for loop in loops:
            folder = Path(resources.enter_context(tempfile.TemporaryDirectory()))
            process = LoopProcess(loop, trainings, folder)
            resources.callback(process.close)
            processes.append(process)
        for _, turns in trainings:
            _take_turns(processes, turns, order)
        by_loop = [process.results() for process in processes]
    return [list(steps) for steps in zip(*by_loop, strict=True)]


def _take_turns(processes: Sequence[LoopProcess], turns: Turns, order: random.Random) -> None:
    for process in processes:
        process.await_turn()
    turn = list(processes)
    for _ in range(turns.count):
        order.shuffle(turn)
        for process in turn:
            process.give_turn()
            process.await_turn()
    for process in processes:
        process.give_turn()
