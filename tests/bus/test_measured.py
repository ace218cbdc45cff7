"""Values that handlers return: they wait for the next log of the run, and no longer than that."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepbus.bus import EventBus
from stepbus.bus.measuring import MeasuredValues
from stepbus.bus.testing import Recorder
from stepbus.schemas import ArgumentError, Event, Measured, TrainerState, Vote
from tests.bus.sidecar import handlers


def steps(link: Any, count: int) -> None:
    for _ in range(count):
        link.state.global_step += 1
        link.emit("step_end")


@pytest.mark.parametrize("delivery", ["thread", "loop", "gate", "process"])
def test_what_a_handler_measured_is_there_once_the_bus_is_flushed(
    bus: EventBus, delivery: Any
) -> None:
    async def measure(event: Event) -> Measured:
        return handlers.measures(event)  # type: ignore[arg-type]

    handler = measure if delivery == "loop" else handlers.measures
    bus.subscribe("step_end", delivery=delivery, required=True)(handler)
    bus.wait_ready()
    links = [bus.open_run(TrainerState(), run_id=name) for name in ("a", "b")]
    for link, count in zip(links, (500, 3), strict=True):
        steps(link, count)
    assert bus.flush(30)
    for link, count in zip(links, (500, 3), strict=True):
        assert link.measured.waiting
        taken = link.measured.take()
        assert math.isnan(taken.pop("nan"))  # type: ignore[arg-type]
        assert taken == {"step_seen": count, "text": "\u00e4"}
        assert not link.measured.waiting
    row = next(row for row in bus.ledger if row.subscriber == handler.__name__)
    assert (row.handled, row.failures, row.votes) == (503, 0, 0)


def test_votes_may_stand_beside_it(bus: EventBus) -> None:
    @bus.subscribe("step_end")
    def both(event: Event) -> list[Any]:
        return [Measured({"a": 1}), Vote("save"), Measured({"a": 2, "b": 0.5})]

    link = bus.open_run(TrainerState())
    steps(link, 1)
    assert bus.flush(10)
    assert link.measured.take() == {"a": 2, "b": 0.5}
    assert link.votes.decide("save", 1) is not None


@pytest.mark.parametrize("delivery", ["thread", "process"])
def test_what_comes_after_the_end_of_its_run_makes_nothing_and_is_said_once(
    bus: EventBus, delivery: Any, caplog: pytest.LogCaptureFixture
) -> None:
    everything = bus.subscribe(Recorder())
    bus.subscribe("step_end", delivery=delivery, required=True)(handlers.measures)
    bus.wait_ready()
    link = bus.open_run(TrainerState(), run_id="over")
    other = bus.open_run(TrainerState(), run_id="other")
    bus.close_run(link)
    with caplog.at_level(logging.INFO):
        steps(link, 3)
        assert bus.flush(30)
    assert caplog.text.count("after the run's last log: it is in no log") == 1
    assert "measures measured step_seen, nan, text on step_end (step 1)" in caplog.text
    assert (link.measured.waiting, other.measured.waiting) == ({}, {})
    assert everything.kinds == ["step_end"] * 3


@pytest.mark.parametrize("values", [{"a": [1, 2]}, {"a": object()}, 3.0, {1: 2.0}])
def test_what_is_no_value_by_name_is_refused(values: Any) -> None:
    with pytest.raises(ArgumentError, match=r"Measured\(.*give a dict of numbers"):
        Measured(values)


@given(
    st.lists(
        st.one_of(
            st.dictionaries(st.sampled_from("abc"), st.integers()),
            st.none().map(lambda _: "take"),
        )
    )
)
def test_of_each_name_the_newest_is_taken_once(doings: list[Any]) -> None:
    values = MeasuredValues()
    waiting: dict[str, int] = {}
    newest: dict[str, int] = {}
    for doing in doings:
        if doing == "take":
            assert values.take() == waiting
            waiting = {}
        else:
            assert values.add(doing)
            waiting = {**waiting, **doing}
            newest |= doing
        assert values.waiting == waiting
    assert values.close() == newest
    assert not values.add({"a": 1})
    assert (values.take(), values.close()) == ({}, newest)
