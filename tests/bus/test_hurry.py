"""Who is told that the time at the end is nearly over, and what may still be done then."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, Literal

import pytest

from stepbus.bus import EventBus
from stepbus.schemas import TrainerState
from tests.bus.sidecar.handlers import Heeding

Delivery = Literal["thread", "process"]
DEADLINE_S = 60.0


def lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def closed(subscriber: Heeding, delivery: Delivery, path: Path, *, timeout: float) -> EventBus:
    """A bus that is closed while its subscriber works on the first of three events, or later."""
    bus = EventBus().start()
    bus.subscribe(subscriber, delivery=delivery, required=True)
    bus.wait_ready()
    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(3):
        state.global_step += 1
        link.emit("step_end")
    if subscriber.waits_in != "step_end":
        assert bus.flush(DEADLINE_S)
    began = time.monotonic()
    while not lines(path):
        assert time.monotonic() < began + DEADLINE_S
        time.sleep(0.005)
    # Of which the last fifth, at most a second, is for those who are told.
    bus.close(timeout)
    return bus


TIMEOUT_S = {"thread": 1.0, "process": 5.0}
DELIVERIES = ["thread", pytest.param("process", marks=pytest.mark.slow)]


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_handler_that_heeds_it_returns_and_the_teardown_still_runs(
    tmp_path: Path, delivery: Delivery
) -> None:
    path = tmp_path / "lines"
    bus = closed(Heeding(str(path), "step_end"), delivery, path, timeout=TIMEOUT_S[delivery])
    found = lines(path)
    assert [line["name"] for line in found] == ["waits", "hurry", "step_end", "close"]
    waits, hurry, *rest = [line["thread"] for line in found]
    assert hurry != waits
    assert rest == [waits, waits]
    row = bus.ledger["Heeding"]
    assert (row.handled, row.dropped, row.stuck) == (1, {"deadline": 2}, False)


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_a_teardown_that_waits_is_told_too(tmp_path: Path, delivery: Delivery) -> None:
    path = tmp_path / "lines"
    bus = closed(Heeding(str(path), "close"), delivery, path, timeout=TIMEOUT_S[delivery])
    names = [line["name"] for line in lines(path)]
    assert names == ["step_end", "step_end", "step_end", "waits", "hurry", "close"]
    row = bus.ledger["Heeding"]
    assert (row.handled, row.dropped, row.stuck) == (3, {}, False)


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_who_is_done_in_time_is_not_told(tmp_path: Path, delivery: Delivery) -> None:
    path = tmp_path / "lines"
    closed(Heeding(str(path)), delivery, path, timeout=30.0)
    assert [line["name"] for line in lines(path)] == ["step_end", "step_end", "step_end", "close"]


def test_one_that_fails_is_said_and_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Heeding):
        def hurry(self) -> None:
            super().hurry()
            raise RuntimeError("on purpose")

    path = tmp_path / "lines"
    bus = closed(Failing(str(path), "step_end"), "thread", path, timeout=1.0)
    assert [line["name"] for line in lines(path)] == ["waits", "hurry", "step_end", "close"]
    assert "Failing.hurry() failed: RuntimeError: on purpose" in caplog.text
    assert bus.ledger["Failing"].failures == 0


def test_one_that_does_not_heed_it_is_left_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Deaf(Heeding):
        def hurry(self) -> None:
            self.write("hurry")

    path = tmp_path / "lines"
    deaf = Deaf(str(path), "step_end")
    try:
        bus = closed(deaf, "thread", path, timeout=0.5)
        assert [line["name"] for line in lines(path)] == ["waits", "hurry"]
        row = bus.ledger["Deaf"]
        assert (row.handled, row.dropped, row.stuck) == (0, {"stuck": 2}, True)
        assert "subscriber Deaf is stuck in its handler of step_end (step 1)" in caplog.text
    finally:
        deaf.told.set()
        for thread in threading.enumerate():
            if thread.name == "stepbus-Deaf":
                thread.join(10)
