"""`event.state` of a handler in another process is that of the trainer at that event."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepbus.bus import Deferred, EventBus, Subscriber
from stepbus.bus.sidecar.sent_states import MOST_HISTORIES
from stepbus.schemas import Event, Log, TrainerState
from stepbus.schemas.history import PendingRow
from tests.bus.sidecar import handlers
from tests.bus.sidecar.handlers import lines_of

MakeBus = Callable[..., EventBus]


class StatesHere(Subscriber):
    """The same as `handlers.States`, in this process."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def on_event(self, event: Event) -> None:
        values = {k: v for k, v in vars(event.state).items() if k != "log_history"}
        rows = [dict(row) for row in event.state.log_history]
        line = {"step": event.step, "values": repr(values), "rows": repr(rows)}
        self.lines.append({"name": event.name, **line})


def states(path: Path) -> list[dict[str, Any]]:
    lines = [line for line in lines_of(path) if line["name"] not in ("open", "close")]
    return [{name: value for name, value in line.items() if name != "pid"} for line in lines]


def subscribe(bus: EventBus, path: Path) -> StatesHere:
    here = bus.subscribe(StatesHere())
    bus.subscribe(handlers.States(str(path)), delivery="process", required=True)
    bus.wait_ready()
    return here


def test_it_is_what_it_was(bus: EventBus, tmp_path: Path) -> None:
    state = TrainerState(
        max_steps=9, trial_params={"lr": [1e-3, {"deep": (1, 2)}]}, best_metric=math.inf
    )
    state.add_log({"loss": 3.0, "step": 0})
    here = subscribe(bus, tmp_path / "a")
    link = bus.open_run(state)
    other = bus.open_run(TrainerState(max_steps=5))
    for step in range(1, 8):
        state.global_step, state.epoch = step, step / 7
        link.emit("step_end", {"loss": 1.0})
        if step % 2:
            state.add_log({"loss": 1.0 / step, "nan": math.nan, "step": step})
            link.emit("log", {"logs": {"loss": 1.0 / step}})
        if step == 4:
            state.best_metric, state.best_model_checkpoint = -1.5, "x/checkpoint-4"
            other.state.global_step += 1
            other.emit("step_end")
    assert bus.flush(30)
    assert states(tmp_path / "a") == here.lines
    assert [line["rows"].count("loss") for line in here.lines] == [
        1,
        2,
        2,
        2,
        3,
        3,
        0,
        3,
        4,
        4,
        4,
        5,
    ]


def test_it_is_what_it_was_after_a_death(bus: EventBus, tmp_path: Path) -> None:
    here = subscribe(bus, tmp_path / "a")
    link = bus.open_run(TrainerState())

    def some() -> None:
        for _ in range(5):
            link.state.global_step += 1
            link.state.add_log({"loss": 0.5, "step": link.state.global_step})
            link.emit("log", {"logs": {"loss": 0.5}})
        assert bus.flush(30)

    some()
    os.kill(lines_of(tmp_path / "a")[0]["pid"], signal.SIGKILL)
    some()
    assert states(tmp_path / "a") == here.lines


def test_histories_that_were_let_go_of_come_again(bus: EventBus, tmp_path: Path) -> None:
    here = subscribe(bus, tmp_path / "a")
    links = [bus.open_run(TrainerState()) for _ in range(MOST_HISTORIES + 3)]
    for link in [*links, *links]:
        link.state.global_step += 1
        link.state.add_log({"loss": 0.5, "step": link.state.global_step})
        link.emit("log", {"logs": {"loss": 0.5}})
    assert bus.flush(30)
    assert states(tmp_path / "a") == here.lines


def test_an_event_without_a_state_says_so_there_too(bus: EventBus, tmp_path: Path) -> None:
    bus.subscribe(handlers.States(str(tmp_path / "a")), delivery="process", required=True)
    bus.wait_ready()
    bus.publish(Log(logs={"loss": 1.0}))
    assert bus.flush(30)
    (line,) = states(tmp_path / "a")
    assert "carries no state" in line["none"]


class Lost(Deferred):
    """A number that never comes."""

    def ready(self) -> bool:
        return False

    def result(self) -> float:
        raise AssertionError("nobody is to wait for it")


class Pending(PendingRow):
    """A row whose number is on its way."""

    @property
    def known(self) -> bool:
        return False

    def settle(self) -> None:
        raise AssertionError("nobody is to wait for it")


def test_nobody_waits_for_a_row_that_is_still_on_its_way(bus: EventBus, tmp_path: Path) -> None:
    bus.subscribe(handlers.States(str(tmp_path / "a")), delivery="process", required=True)
    bus.wait_ready()
    link = bus.open_run(TrainerState())
    link.state.add_log(Pending({"loss": Lost(), "step": 1}))
    link.emit("log", {"logs": {"loss": None}})
    assert bus.flush(30)
    (line,) = states(tmp_path / "a")
    assert line["rows"] == "[{'loss': None, 'step': 1}]"
