"""Loops step in turns, each in a process of its own, and nothing of theirs goes on meanwhile."""

from __future__ import annotations

import os
import threading
import time

import pytest

from stepbus.cli.bench.pairing import LoopFailed, Training, measure
from stepbus.cli.bench.turns import END, FINISH, GO, READY, LoopSpec, Turns, Turnstile
from stepbus.engine.bench.equal_work import Work
from stepbus.engine.bench.loops import TurnsOver

RAW = LoopSpec("stepbus.engine.bench.loops:raw", name="raw")
RUN = LoopSpec("stepbus.engine.bench.loops:training_run", name="TrainingRun")


class Gate:
    """A turnstile, the two pipes to it, and the thread that steps through it."""

    def __init__(self, turns: Turns, steps: int) -> None:
        self._inbox, self._give = os.pipe()
        self._take, self._outbox = os.pipe()
        self.turnstile = Turnstile(turns, self._inbox, self._outbox)
        self.was_left = False
        self._thread = threading.Thread(target=self._step, args=(steps,))
        self._thread.start()

    def _step(self, steps: int) -> None:
        try:
            for _ in range(steps):
                self.turnstile()
        except TurnsOver:
            self.was_left = True

    def await_turn(self) -> None:
        assert os.read(self._take, 1) == READY

    def give(self, command: bytes) -> None:
        os.write(self._give, command)

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        for end in (self._inbox, self._give, self._take, self._outbox):
            os.close(end)


@pytest.mark.parametrize("measured", [1, 4])
@pytest.mark.parametrize("settling", [0, 3])
def test_turnstile_measures_the_last_steps_of_each_turn_without_the_waiting(
    measured: int, settling: int
) -> None:
    turns = Turns(settling=settling, measured=measured, warm_up=2)
    gate = Gate(turns, turns.steps(3))
    for done in range(3):
        gate.await_turn()
        assert len(gate.turnstile.wall_s) == done
        time.sleep(0.1)  # what must not be counted
        gate.give(GO)
    gate.await_turn()
    gate.give(FINISH)
    gate.join()
    assert not gate.was_left
    assert [len(turn) for turn in gate.turnstile.wall_s] == [measured] * 3
    assert [len(turn) for turn in gate.turnstile.cpu_s] == [measured] * 3
    assert max(max(turn) for turn in gate.turnstile.wall_s) < 0.1


def test_turn_of_slow_steps_ends_early_and_a_loop_is_left_when_told() -> None:
    gate = Gate(Turns(settling=0, measured=1_000_000, most_s=0.0, warm_up=1), 1_000)
    gate.await_turn()
    gate.give(GO)
    gate.await_turn()
    gate.give(END)
    gate.join()
    assert gate.was_left
    assert [len(turn) for turn in gate.turnstile.wall_s] == [1]


def test_warm_up_of_slow_steps_ends_early() -> None:
    gate = Gate(Turns(warm_up=1_000_000, warm_up_most_s=0.0), 1_000)
    gate.await_turn()
    gate.give(END)
    gate.join()
    assert gate.turnstile.wall_s == []


@pytest.mark.slow
def test_loops_in_processes_of_their_own_train_alike_and_take_their_turns() -> None:
    turns, other = Turns(settling=1, warm_up=2), Turns(settling=0, measured=2, warm_up=1)
    trainings = [
        Training(Work(8, turns.steps(5)), turns, count=5),
        Training(Work(8, other.steps(3), accumulation=2), other, count=3),
    ]
    first, second = measure([RAW, RUN], trainings, seed=0)
    assert [len(steps.wall_s) for steps in first] == [5, 5]
    assert [len(turn) for turn in second[1].cpu_s] == [2, 2, 2]
    assert first[0].weights == first[1].weights != second[0].weights
    assert second[0].weights == second[1].weights


@pytest.mark.slow
def test_loops_that_are_measured_for_a_time_are_left_where_they_are() -> None:
    turns = Turns(settling=0, measured=3, warm_up=1)
    training = Training(Work(8, 100_000), turns, seconds=1.0, unmeasured_s=0.2)
    (taken,) = measure([RAW, RUN], [training], seed=0)
    raw, run = taken
    assert len(raw.wall_s) == len(run.wall_s) >= 1
    assert raw.weights == run.weights == ""
    assert any(row["subscriber"] == "DefaultFlowCallback" for row in run.facts["ledger"])


@pytest.mark.slow
def test_loop_that_fails_is_named_with_what_it_said() -> None:
    turns = Turns()
    work = Work(8, turns.steps(1), batch_size=0)
    with pytest.raises(LoopFailed, match=r"the loop raw failed:[\s\S]*num_samples should be"):
        measure([RAW], [Training(work, turns, count=1)], seed=0)


@pytest.mark.slow
def test_loop_that_stands_still_is_given_up() -> None:
    turns = Turns(warm_up=10**9)
    training = Training(Work(8, 10**6), turns, count=1)
    with pytest.raises(LoopFailed, match="the loop raw did not step within 3 s"):
        measure([RAW], [training], seed=0, deadline_s=3.0)
