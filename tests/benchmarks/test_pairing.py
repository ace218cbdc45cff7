"""Steps are measured side by side, and the figures say what they cost and how sure that is."""

from __future__ import annotations

import os
import random
import threading
import time

import pytest

from benchmarks.equal_work import Work
from benchmarks.figures import Figure
from benchmarks.paired import Pairs
from benchmarks.pairing import measure
from benchmarks.turns import GO, READY, Turns, Turnstile


def times(factor: float, seed: int) -> list[list[float]]:
    """Steps of about 1 ms in three processes, with the machine twice as slow half of the time."""
    noise = random.Random(seed)
    return [
        [
            factor * (1 + number // 50 % 2) * 1e-3 * noise.uniform(0.98, 1.02)
            for number in range(200)
        ]
        for _ in range(3)
    ]


def test_ratio_of_pairs_is_found_though_the_machine_changes_its_speed() -> None:
    base = times(1.0, 1)
    control = Pairs(times(1.0, 2), base)
    figure = Pairs(times(1.1, 3), base).figure("ten per cent more", "x", control, budget=1.05)
    assert figure.median == pytest.approx(1.1, abs=0.005)
    assert figure.mean == pytest.approx(1.1, abs=0.005)
    assert figure.interval is not None
    low, high = figure.interval
    assert low < 1.1 < high
    assert high - low < 0.01
    assert figure.control == pytest.approx(1.0, abs=0.005)
    assert figure.samples == 600
    assert figure.verdict == "+0.05"


def test_difference_of_pairs_is_in_microseconds() -> None:
    base = times(1.0, 1)
    more = [[value + 30e-6 for value in repetition] for repetition in base]
    figure = Pairs(more, base).figure("30 us more", "us", Pairs(base, base), budget=20.0)
    assert figure.median == pytest.approx(30.0)
    assert figure.p99 == pytest.approx(30.0)
    assert figure.verdict == "1.5 x"


def test_processes_that_differ_widen_the_interval() -> None:
    base = times(1.0, 1)
    alike = Pairs(times(1.0, 2), base).figure("alike", "x", None)
    luck = (0.9, 1.0, 1.1)
    lucky = [[value * factor for value in r] for factor, r in zip(luck, base, strict=True)]
    differing = Pairs(lucky, base).figure("differing", "x", None)
    assert alike.interval is not None
    assert differing.interval is not None
    assert differing.interval[1] - differing.interval[0] > 0.1
    assert alike.interval[1] - alike.interval[0] < 0.01


@pytest.mark.parametrize(
    ("median", "control", "floor", "verdict"),
    [
        (1.04, 1.0, 0.0, "met"),
        (1.06, 1.0, 0.02, "not told apart"),
        (1.06, 0.98, 0.0, "not told apart"),
        (1.10, 1.0, 0.02, "+0.05"),
    ],
)
def test_verdict_on_a_ratio_allows_for_the_control(
    median: float, control: float, floor: float, verdict: str
) -> None:
    figure = Figure("x", median, 1.0, control, budget=1.05, unit="x", floor=floor)
    assert figure.verdict == verdict


def test_turnstile_measures_the_last_step_of_each_turn_without_the_waiting() -> None:
    inbox, give = os.pipe()
    take, outbox = os.pipe()
    turns = Turns(count=3, settling=1, warm_up=2)
    turnstile = Turnstile(turns, inbox, outbox)

    def step() -> None:
        for _ in range(turns.steps):
            turnstile()

    steps = threading.Thread(target=step)
    steps.start()
    for done in range(turns.count + 1):
        assert os.read(take, 1) == READY
        assert len(turnstile.wall_s) == done
        time.sleep(0.1)  # what must not be counted
        os.write(give, GO)
    steps.join(10)
    assert not steps.is_alive()
    assert len(turnstile.wall_s) == len(turnstile.cpu_s) == turns.count
    assert max(turnstile.wall_s) < 0.1
    for end in (inbox, give, take, outbox):
        os.close(end)


@pytest.mark.slow
def test_loops_in_processes_of_their_own_train_alike_and_take_their_turns() -> None:
    turns = Turns(count=5, settling=1, warm_up=2)
    other = Turns(count=3, settling=0, warm_up=1)
    trainings = [(Work(8, turns.steps), turns), (Work(8, other.steps, accumulation=2), other)]
    first, second = measure(["raw", "TrainingRun"], trainings, seed=0)
    assert [len(steps.wall_s) for steps in first] == [5, 5]
    assert [len(steps.cpu_s) for steps in second] == [3, 3]
    assert first[0].weights == first[1].weights != second[0].weights
    assert second[0].weights == second[1].weights


@pytest.mark.slow
def test_loop_that_fails_is_named_with_what_it_said() -> None:
    turns = Turns(count=1)
    with pytest.raises(RuntimeError, match=r"the loop raw failed:[\s\S]*num_samples should be"):
        measure(["raw"], [(Work(8, turns.steps, batch_size=0), turns)], seed=0)
