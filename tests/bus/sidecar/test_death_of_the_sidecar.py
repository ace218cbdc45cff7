"""A process that dies is replaced: nothing is lost, and nobody else notices."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus.bus import EventBus, LedgerRow, RunLink
from stepbus.bus.sidecar import deaths
from stepbus.bus.sidecar.deaths import MOST_CRASHES
from stepbus.bus.testing import Recorder
from stepbus.schemas import DeliveryError, TrainerState
from tests.bus.sidecar import handlers
from tests.bus.sidecar.conftest import children
from tests.bus.sidecar.handlers import Writer, lines_of

MakeBus = Callable[..., EventBus]
DEADLINE_S = 30.0


def steps(link: RunLink, count: int) -> None:
    for _ in range(count):
        link.state.global_step += 1
        link.emit("step_end")


def adds_up(row: LedgerRow) -> bool:
    settled = row.handled + row.failed + row.passed_over + row.num_dropped
    return row.accepted == settled + row.pending


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def steps_of(path: Path) -> dict[int, list[int]]:
    """The steps that each process has written, in the order of the processes."""
    found: dict[int, list[int]] = {}
    for line in lines_of(path):
        if line["name"] == "step_end":
            found.setdefault(line["pid"], []).append(line["step"])
    return found


def assert_nothing_is_lost(path: Path, count: int) -> None:
    """All steps have come, in order; some twice, where a process had died."""
    found = steps_of(path)
    for seen in found.values():
        assert seen == list(range(seen[0], seen[0] + len(seen))), "out of order in one process"
    for former, latter in itertools.pairwise(found.values()):
        assert latter[0] <= former[-1] + 1, "a gap between two processes"
    assert list(found.values())[-1][-1] == count


def test_what_was_not_acknowledged_is_sent_again(make_bus: MakeBus, tmp_path: Path) -> None:
    bus = make_bus()
    path, news = tmp_path / "a", Recorder()
    bus.subscribe("subscriber_failed")(news)
    bus.subscribe(Writer(str(path)), delivery="process", required=True)
    bus.wait_ready()
    link = bus.open_run(TrainerState())
    (pid,) = {line["pid"] for line in lines_of(path)}
    steps(link, 1_000)
    wait_until(lambda: len(lines_of(path)) > 100, "nothing was handled")
    os.kill(pid, signal.SIGKILL)
    steps(link, 1_000)
    assert bus.flush(DEADLINE_S)
    bus.close()
    assert_nothing_is_lost(path, 2_000)
    row = bus.ledger["Writer"]
    assert (row.handled, row.failures, row.quarantined) == (2_000, 0, "")
    assert adds_up(row)
    assert [line["name"] for line in lines_of(path)].count("close") == 1
    assert news.events == []


def test_one_line_says_who_died_and_how(bus: EventBus, tmp_path: Path, caplog: Any) -> None:
    for name in ("a", "b"):
        bus.subscribe(Writer(str(tmp_path / name)), delivery="process", name=name)
    bus.wait_ready()
    pid = lines_of(tmp_path / "a")[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(lines_of(tmp_path / "b")) == 2, "it was not replaced")
    said = [record.getMessage() for record in caplog.records]
    how = "was ended by SIGKILL: another one goes on where they were"
    assert said == [f"stepbus: the process {pid} of a, b {how}"]


def test_a_vote_of_an_event_that_came_twice_counts_once(bus: EventBus, tmp_path: Path) -> None:
    bus.subscribe(
        handlers.Crashing(str(tmp_path / "a"), at=3, until=str(tmp_path / "crashed")),
        delivery="process",
        required=True,
    )
    bus.wait_ready()
    link = bus.open_run(TrainerState())
    posted: list[str] = []
    post = bus.feedback.post

    def note(vote: Any, event: Any) -> None:
        posted.append(vote.voter)
        post(vote, event)

    bus.feedback.post = note  # type: ignore[method-assign]
    steps(link, 5)
    assert bus.flush(DEADLINE_S)
    assert posted == [f"at {step}" for step in range(1, 6)]
    assert bus.ledger["Crashing"].handled == 5
    assert len(steps_of(tmp_path / "a")) == 2


@pytest.mark.slow
def test_who_crashes_again_and_again_is_given_up_and_the_others_go_on(
    make_bus: MakeBus, tmp_path: Path, caplog: Any
) -> None:
    bus = make_bus()
    news = Recorder()
    bus.subscribe("subscriber_failed")(news)
    bus.subscribe(Writer(str(tmp_path / "good")), delivery="process")
    bus.subscribe(handlers.Crashing(str(tmp_path / "bad"), at=3), delivery="process")
    bus.wait_ready()
    link = bus.open_run(TrainerState())
    steps(link, 10)
    assert bus.flush(DEADLINE_S)
    steps(link, 10)
    bus.close()
    assert_nothing_is_lost(tmp_path / "good", 20)
    bad, good = bus.ledger["Crashing"], bus.ledger["Writer"]
    assert bad.handled == 2
    assert bad.quarantined == (
        f"its process was ended by SIGUSR1, {MOST_CRASHES + 1} times in a row before it got on"
    )
    assert bad.dropped == {"quarantine": 18}
    assert adds_up(bad)
    assert (good.handled, good.quarantined) == (21, ""), "20 steps, and the news of the failure"
    assert [event.subscriber for event in news.of("subscriber_failed")] == ["Crashing"]
    # Told apart from the one that is not to blame, it crashes alone.
    assert len(steps_of(tmp_path / "good")) <= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "why"),
    [(handlers.CrashingInOpen, "status 3"), (handlers.CrashingInClose, "status 4")],
)
def test_crashes_in_set_up_and_teardown_come_to_an_end(
    make_bus: MakeBus, tmp_path: Path, kind: Any, why: str
) -> None:
    bus = make_bus()
    bus.subscribe(kind(str(tmp_path / "a")), delivery="process")
    bus.wait_ready()
    bus.close(90)
    assert f"its process ended with {why}" in bus.ledger[kind.__name__].quarantined
    assert len({line["pid"] for line in lines_of(tmp_path / "a")}) == MOST_CRASHES + 1


@pytest.mark.slow
def test_a_required_one_whose_process_dies_in_set_up_is_an_error(tmp_path: Path) -> None:
    bus = EventBus()
    bus.subscribe(handlers.CrashingInOpen(str(tmp_path / "a")), delivery="process", required=True)
    with pytest.raises(DeliveryError, match="ended with status 3, 4 times in a row"):
        bus.start()


@pytest.mark.parametrize("python", ["", "/no/such/python", "/bin/false"])
def test_a_process_that_cannot_be_started_is_said(
    monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    monkeypatch.setattr(sys, "executable", python)
    bus = EventBus()
    bus.subscribe("log", delivery="process", required=True)(handlers.ignore)
    says = {"": "sys.executable is empty", "/bin/false": "ended with status 1"}
    with pytest.raises(DeliveryError, match=says.get(python, "cannot be started: .*No such file")):
        bus.start()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_twenty_kills_lose_nothing(
    make_bus: MakeBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many deaths in so short a time have each replacement wait for seconds.
    monkeypatch.setattr(deaths, "LONGEST_DELAY_S", 0.1)
    bus = make_bus()
    randomly = random.Random(7)
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        bus.subscribe(Writer(str(path)), delivery="process", name=path.name, required=True)
    bus.wait_ready()
    link = bus.open_run(TrainerState())
    for _ in range(20):
        kill_at = time.monotonic() + randomly.uniform(0.0, 1.0)
        while time.monotonic() < kill_at:
            steps(link, 1)
            time.sleep(0.001)
        (pid,) = children()
        os.kill(pid, signal.SIGKILL)
        steps(link, 1)
        wait_until(lambda pid=pid: not {pid} & children() and children() != set(), "no other came")  # type: ignore[misc]
    assert bus.flush(DEADLINE_S)
    bus.close()
    for path in paths:
        assert_nothing_is_lost(path, link.state.global_step)
        row = bus.ledger[path.name]
        assert (row.handled, row.failures) == (link.state.global_step, 0)
        assert adds_up(row)
