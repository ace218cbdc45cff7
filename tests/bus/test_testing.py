"""The kit for the tests of others."""

import threading
from typing import Any

import pytest

from stepbus.bus import EventBus
from stepbus.bus.testing import FakeClock, Recorder, ScriptedVotes
from stepbus.schemas import ArgumentError, Log, StepEnd, TrainerState, Vote


def test_a_recorder_waits_for_what_comes_later() -> None:
    recorder = Recorder()

    def record() -> None:
        for step in (1, 2):
            recorder(StepEnd(step=step))

    later = threading.Timer(0.02, record)
    later.start()
    assert [event.step for event in recorder.wait_for("step_end", 2)] == [1, 2]
    later.join()
    recorder(Log(logs={"a": 1}))
    assert recorder.kinds == ["step_end", "step_end", "log"]
    assert [log.logs["a"] for log in recorder.of(Log)] == [1]
    recorder.clear()
    assert recorder.events == []


def test_a_recorder_says_what_came_instead() -> None:
    recorder = Recorder()
    recorder(StepEnd())
    with pytest.raises(TimeoutError, match=r"0 of 3 log events came .* are: step_end"):
        recorder.wait_for("log", 3, timeout=0.01)
    with pytest.raises(ArgumentError, match="did you mean 'log'"):
        recorder.wait_for("logg")


@pytest.mark.parametrize("delivery", ["thread", "gate"])
def test_a_recorder_may_be_delivered_to_in_any_thread(bus: EventBus, delivery: Any) -> None:
    recorder = bus.subscribe(Recorder(), delivery=delivery)
    bus.open_run(TrainerState()).emit("step_end")
    recorder.wait_for(StepEnd)


def test_scripted_votes_are_cast_once_at_their_events() -> None:
    votes = ScriptedVotes({2: Vote("save"), ("log", 3): [Vote("stop"), Vote("log")]})
    assert votes.on_event(StepEnd(step=1)) == []
    assert votes.on_event(StepEnd(step=2)) == [Vote("save")]
    assert votes.on_event(StepEnd(step=2)) == []
    assert votes.on_event(StepEnd(step=3)) == []
    assert votes.num_waiting == 1
    assert votes.on_event(Log(step=3, logs={})) == [Vote("stop"), Vote("log")]
    assert [vote.action for vote in votes.cast] == ["save", "stop", "log"]
    with pytest.raises(ArgumentError, match="did you mean 'step_end'"):
        ScriptedVotes({("step_ends", 1): Vote("save")})


def test_a_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(start=5.0)
    before = clock.time()
    assert (clock.monotonic(), clock.monotonic()) == (5.0, 5.0)
    clock.advance(2.5)
    assert clock.monotonic() == 7.5
    assert clock.time() == before + 2.5
