"""What `stepbus bench` advises follows from what each place costs."""

from __future__ import annotations

import pytest

from stepbus.cli.bench.comparison import Compared
from stepbus.cli.bench.paired import Estimate
from stepbus.cli.bench.subject import Where
from stepbus.cli.bench.verdict import Case, verdict


def compared(p50: float, *, p99: float = 1.0, mean: float = 0.0, strays: float = 0.01) -> Compared:
    def near(value: float, by: float) -> Estimate:
        return Estimate(value, value - by, value + by)

    zero = Estimate(0.0, 0.0, 0.0)
    mean = mean or p50
    return Compared(
        "any", near(p50, strays), near(p99, 0.05), near(mean, strays), zero, zero, 1, 1, 1, 100
    )


def case(step_ms: float = 0.4, *, strays: float = 0.01, **places: Compared) -> Case:
    control = compared(1.0, strays=strays)
    return Case(step_ms, step_ms, control, compared(1.0), places)  # type: ignore[arg-type]


SLEEPS = case(inline=compared(40.0), thread=compared(1.02), process=compared(1.02))
BURNS = case(inline=compared(14.0), thread=compared(15.0), process=compared(1.02))
NOTHING = case(inline=compared(1.0), thread=compared(1.01), process=compared(1.01))
TAILS = case(
    inline=compared(14.0), thread=compared(1.03, p99=13.0, mean=1.03), process=compared(1.02)
)
CONVOYS = case(inline=compared(14.0), thread=compared(1.03, mean=6.0), process=compared(1.02))


@pytest.mark.parametrize(
    ("measured", "usual", "said"),
    [
        (
            BURNS,
            "thread",
            (
                "move it to a process: a 0.4 ms step takes 1.020 x in a process, "
                "15 x in a thread, 14 x inline"
            ),
        ),
        (
            BURNS,
            "process",
            (
                "leave it in a process: a 0.4 ms step takes 1.020 x in a process, "
                "15 x in a thread, 14 x inline"
            ),
        ),
        (
            SLEEPS,
            "thread",
            (
                "leave it in a thread: a 0.4 ms step takes 1.020 x in a thread, "
                "1.020 x in a process, 40 x inline"
            ),
        ),
        (
            SLEEPS,
            "inline",
            (
                "move it to a thread: a 0.4 ms step takes 1.020 x in a thread, "
                "1.020 x in a process, 40 x inline"
            ),
        ),
        (
            TAILS,
            "thread",
            (
                "move it to a process: a 0.4 ms step takes 1.020 x in a process, "
                "1.030 x in a thread, 14 x inline"
            ),
        ),
        (
            CONVOYS,
            "thread",
            (
                "move it to a process: a 0.4 ms step takes 1.020 x in a process, "
                "6.00 x in the mean in a thread, 14 x inline"
            ),
        ),
        (
            NOTHING,
            "inline",
            "leave it inline: no place can be told from stepbus with nobody attached",
        ),
    ],
    ids=["burns", "burns there", "sleeps", "sleeps inline", "tails", "convoys", "nothing"],
)
def test_the_cheapest_place_is_advised_and_among_equals_the_present_one(
    measured: Case, usual: Where, said: str
) -> None:
    assert verdict([measured], usual, {}) == said


def test_differences_that_the_control_shows_by_chance_are_no_reason_to_move() -> None:
    noisy = case(strays=0.2, inline=compared(1.3), thread=compared(1.2), process=compared(1.1))
    assert verdict([noisy], "inline", {}).startswith("leave it inline")


def test_each_length_of_step_counts() -> None:
    calm = case(5.0, inline=compared(1.0), thread=compared(1.0), process=compared(1.0))
    assert verdict([calm, BURNS], "thread", {}).startswith("move it to a process: a 0.4 ms step")


def test_a_place_in_which_it_failed_is_not_advised() -> None:
    said = verdict([BURNS], "thread", {"process": "80 of its events failed"})
    assert said.startswith("call it inline: ")
    everywhere: dict[Where, str] = {"inline": "x", "thread": "x", "process": "x"}
    assert verdict([BURNS], "thread", everywhere).startswith("no verdict: it worked in no place")


def test_places_that_were_refused_are_left_out() -> None:
    measured = case(inline=compared(14.0), thread=compared(6.0))
    said = verdict([measured], "inline", {})
    assert said == "move it to a thread: a 0.4 ms step takes 6.00 x in a thread, 14 x inline"
