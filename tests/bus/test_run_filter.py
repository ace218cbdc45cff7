"""`run_id=`: several runs on one bus, told apart by who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import anyio
import pytest

from stepbus.bus import EventBus, Subscriber
from stepbus.bus.testing import Recorder
from stepbus.schemas import ArgumentError, Event, TrainerState

MakeBus = Callable[..., EventBus]


class Spike(Event):
    """One of a user's own."""

    name: Literal["spike"] = "spike"


def two_runs(bus: EventBus) -> None:
    links = [bus.open_run(TrainerState(), run_id=run_id) for run_id in ("a", "b")]
    for step in range(1, 7):
        for link in links:
            link.state.global_step = step
            link.emit("step_end")
            link.emit("log", {"logs": {}})
    bus.publish(Spike(run_id="b"))
    for link in links:
        link.emit("train_end")
    assert bus.flush(10)


def steps(recorder: Any) -> list[tuple[str, int]]:
    return [(event.run_id, event.step) for event in recorder.events]


@pytest.mark.parametrize("delivery", ["thread", "gate"])
def test_a_handler_gets_the_events_of_its_run(make_bus: MakeBus, delivery: Any) -> None:
    bus = make_bus()
    one, some, both = Recorder(), Recorder(), Recorder()
    bus.subscribe("step_end", run_id="b", delivery=delivery)(one.on_event)
    bus.subscribe("step_end", every=3, run_id="a", delivery=delivery)(some.on_event)
    bus.subscribe("step_end", run_id=["a", "b"], delivery=delivery)(both.on_event)
    two_runs(bus)
    assert steps(one) == [("b", step) for step in range(1, 7)]
    assert steps(some) == [("a", 3), ("a", 6)]
    assert len(steps(both)) == 12


def test_a_subscriber_gets_the_events_of_its_run(make_bus: MakeBus) -> None:
    class Both(Subscriber):
        def __init__(self) -> None:
            self.events: list[Event] = []

        def on_log(self, event: Any) -> None:
            self.events.append(event)

        def on_event(self, event: Event) -> None:
            if event.name == "spike":
                self.events.append(event)

    bus = make_bus()
    subscriber = bus.subscribe(Both(), run_id="b")
    other = bus.subscribe(Both(), run_id="a")
    two_runs(bus)
    assert [event.name for event in subscriber.events] == ["log"] * 6 + ["spike"]
    assert {event.run_id for event in other.events} == {"a"}


def test_a_run_that_nobody_hears_emits_nothing(make_bus: MakeBus) -> None:
    bus = make_bus()
    bus.subscribe("step_end", run_id="a")(Recorder().on_event)
    bus.subscribe("log", run_id="a", delivery="gate")(Recorder().on_event)
    links = {run_id: bus.open_run(TrainerState(), run_id=run_id) for run_id in ("a", "b")}
    active = {
        run_id: (link.emitters["step_end"].active, link.emitters["log"].active)
        for run_id, link in links.items()
    }
    assert active == {"a": (True, True), "b": (False, False)}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_stream_of_one_run_ends_with_that_run(make_bus: MakeBus, backend: str) -> None:
    bus = make_bus()
    seen: list[tuple[str, str]] = []

    async def main() -> None:
        with anyio.fail_after(30):
            stream = bus.events("log", until="train_end", run_id="b")
            await anyio.to_thread.run_sync(two_runs, bus)
            seen.extend([(event.name, event.run_id) async for event in stream])

    anyio.run(main, backend=backend)
    assert seen == [("log", "b")] * 6 + [("train_end", "b")]


@pytest.mark.parametrize("run_id", ["", 7])
def test_what_is_no_run_is_refused(bus: EventBus, run_id: Any) -> None:
    with pytest.raises(ArgumentError, match="is no run"):
        bus.subscribe("log", run_id=run_id)
