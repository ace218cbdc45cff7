"""The figures say what steps cost beside others, and how sure that is."""

from __future__ import annotations

import random

import pytest

from stepbus.cli.bench.figures import Figure, shown
from stepbus.cli.bench.paired import Pairs


def times(factor: float, seed: int, steps: int = 1) -> list[list[list[float]]]:
    """Steps of about 1 ms in three processes, with the machine twice as slow half of the time."""
    noise = random.Random(seed)
    return [
        [
            [factor * (1 + turn // 50 % 2) * 1e-3 * noise.uniform(0.98, 1.02) for _ in range(steps)]
            for turn in range(200)
        ]
        for _ in range(3)
    ]


@pytest.mark.parametrize(("steps", "base_steps"), [(1, 1), (3, 3), (2, 8), (8, 2)])
def test_ratio_of_pairs_is_found_though_the_machine_changes_its_speed(
    steps: int, base_steps: int
) -> None:
    pairs = Pairs(times(1.1, 3, steps), times(1.0, 1, base_steps))
    median = pairs.median("x")
    assert median.value == pytest.approx(1.1, abs=0.005)
    assert median.low < 1.1 < median.high
    assert median.high - median.low < 0.015
    assert pairs.mean("x").value == pytest.approx(1.1, abs=0.005)
    assert pairs.num_steps == 600 * steps


def test_difference_of_pairs_is_in_microseconds() -> None:
    base = times(1.0, 1)
    more = [[[value + 30e-6 for value in turn] for turn in turns] for turns in base]
    pairs = Pairs(more, base)
    assert pairs.median("us").value == pytest.approx(30.0)
    assert pairs.quantile(0.99, "us").value == pytest.approx(30.0)


def test_the_slowest_steps_show_in_the_quantile_and_not_in_the_median() -> None:
    base = times(1.0, 1, 10)
    slow = [[[*turn[:-1], turn[-1] * 20] for turn in turns] for turns in base]
    pairs = Pairs(slow, base)
    assert pairs.median("x").value == 1.0
    assert pairs.quantile(0.99, "x").value > 15
    assert pairs.quantile_s(0.5) < 0.003


def test_processes_that_differ_widen_the_interval() -> None:
    base = times(1.0, 1)
    alike = Pairs(times(1.0, 2), base).median("x")
    luck = (0.9, 1.0, 1.1)
    lucky = [
        [[value * factor for value in turn] for turn in turns]
        for factor, turns in zip(luck, base, strict=True)
    ]
    differing = Pairs(lucky, base).median("x")
    assert differing.high - differing.low > 0.1
    assert alike.high - alike.low < 0.01
    assert differing.floor("x") == pytest.approx(0.1, abs=0.02)


def test_few_steps_still_have_an_interval() -> None:
    base = [turns[:12] for turns in times(1.0, 1)[:1]]
    median = Pairs([turns[:12] for turns in times(1.0, 2)[:1]], base).median("x")
    assert median.low < median.high


@pytest.mark.parametrize(
    ("value", "control", "floor", "verdict"),
    [
        (1.04, 1.0, 0.0, "met"),
        (1.06, 1.0, 0.02, "not told from the control"),
        (1.06, 0.98, 0.0, "not told from the control"),
        (1.10, 1.0, 0.02, "not met, by 0.050 x"),
        (3.00, 1.0, 0.02, "not met, by 1.950 x"),
    ],
)
def test_verdict_on_a_ratio_allows_for_the_control(
    value: float, control: float, floor: float, verdict: str
) -> None:
    figure = Figure("p", "c", "s", "p50", value, "x", control=control, floor=floor, budget=1.05)
    assert figure.verdict == verdict
    assert figure.to_json()["verdict"] == verdict


@pytest.mark.parametrize(
    ("value", "budget", "at_least", "floor", "verdict"),
    [
        (0.4, 0.5, False, 0.0, "met"),
        (0.6, 0.5, False, 0.0, "not met, by 0.100 us"),
        (1.0, 0.5, False, 0.0, "not met, by 2.0 times"),
        (160, 150, True, 0.0, "met"),
        (140, 150, True, 0.0, "not met, by 10 us"),
        (140, 150, True, 20.0, "not told from the control"),
        (50, 150, True, 0.0, "not met, by 3.0 times"),
    ],
)
def test_verdict_says_how_far_a_budget_is_missed(
    value: float, budget: float, at_least: bool, floor: float, verdict: str
) -> None:
    figure = Figure("p", "c", "s", "m", value, "us", budget=budget, at_least=at_least, floor=floor)
    assert figure.verdict == verdict


def test_without_a_budget_there_is_no_verdict() -> None:
    assert Figure("p", "c", "s", "m", 5.0, "us").verdict == ""


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.0234, "x", "1.023 x"),
        (15.03, "x", "15 x"),
        (2.34, "x", "2.34 x"),
        (0.2101, "us", "0.210 us"),
        (12345.0, "us", "12.3 ms"),
        (152345.0, "1/s", "152,345/s"),
        (float("inf"), "us", "none"),
    ],
)
def test_numbers_are_shown_as_people_read_them(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text
