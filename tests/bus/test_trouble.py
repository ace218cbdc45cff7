"""What is off with subscribers, in words."""

from typing import Any

import pytest

from stepbus.bus import Ledger, LedgerRow
from stepbus.bus.trouble import note


def row(subscriber: str = "it", **fields: Any) -> LedgerRow:
    return LedgerRow(subscriber=subscriber, **{"delivery": "thread", "overflow": "spill"} | fields)


WELL = [
    row(),
    row(pending=90_000, lag_s=50.0, peak_pending=90_000),
    row(overflow="latest", dropped={"overflow": 70}),
    row(overflow="drop_oldest", dropped={"overflow": 70}),
]
BEHIND = {"behind": True, "fell_behind": 1, "remedy": "every=8 would do"}
OUT = {"quarantined": "5 failures in a row, the last: ValueError: no", "failures": 5}


@pytest.mark.parametrize("well", WELL)
def test_who_is_well_is_not_spoken_of(well: LedgerRow) -> None:
    assert note([well]) == well.trouble == ""


@pytest.mark.parametrize(
    ("fields", "present", "at_the_end"),
    [
        (
            {**BEHIND, "pending": 1_200},
            "it falls behind, 1,200 events wait: every=8 would do",
            "it fell behind (every=8 would do)",
        ),
        ({**BEHIND, "behind": False, "fell_behind": 3}, "", "it fell behind 3 times (every=8 "),
        (
            {"dropped": {"overflow": 12, "deadline": 1_000}},
            "it has lost 1,012 events",
            "it did not get 1,012 events (12 overflow, 1,000 deadline)",
        ),
        (
            {"dropped": {"overflow": 12, "deadline": 3}, "overflow": "drop_newest"},
            "it has lost 3 events",
            "it did not get 3 events (3 deadline)",
        ),
        (
            {**OUT, "dropped": {"quarantine": 70}},
            "it is out (5 failures in a row, the last: ValueError: no)",
            "it was quarantined (5 failures in a row, the last: ValueError: no), did not get 70",
        ),
        ({"quarantined": "x" * 99}, "it is out (...)", f"it was quarantined ({'x' * 99})"),
        (
            {"stuck": True, "dropped": {"stuck": 4}, "failures": 1},
            "it is stuck",
            "it is stuck in a call that does not return, did not get 4 events (4 stuck)",
        ),
        ({"failures": 1}, "", "it failed once"),
        ({"failures": 1_200}, "", "it failed 1,200 times"),
    ],
)
def test_who_is_off_is_spoken_of(fields: dict[str, Any], present: str, at_the_end: str) -> None:
    assert note([row(**fields)]) == present
    assert row(**fields).trouble.startswith(at_the_end)


def test_of_several_the_worst_is_named() -> None:
    rows = [*WELL, row("slow", **BEHIND), row("stands", stuck=True), row("broken", **OUT)]
    assert note(rows) == "stands is stuck (and 2 more)"
    troubles = Ledger(rows=tuple(rows)).troubles
    assert [line.split()[0] for line in troubles] == ["slow", "stands", "broken"]
