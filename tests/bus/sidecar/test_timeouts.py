"""A handler in another process that takes too long is left behind, and starts again elsewhere."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus.bus import EventBus, Lease, RunLink
from stepbus.bus.sidecar.deaths import MOST_TIMED_OUT
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


def steps_of(path: Path) -> list[int]:
    return [line["step"] for line in lines_of(path) if line["name"] == "step_end"]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def test_it_goes_on_from_where_it_was_and_the_others_notice_nothing(
    make_bus: MakeBus, tmp_path: Path, caplog: Any
) -> None:
    bus = make_bus()
    news = Recorder()
    bus.subscribe("subscriber_failed")(news)
    slow = handlers.Slow(str(tmp_path / "slow"), at=3, until=str(tmp_path / "go"))
    bus.subscribe(slow, delivery="process", timeout=0.3, required=True)
    bus.subscribe("step_end", delivery="process", required=True)(handlers.ignore)
    bus.subscribe(Writer(str(tmp_path / "good")), delivery="process", required=True)
    bus.wait_ready()
    link = bus.open_run(TrainerState())
    posted: list[str] = []
    post = bus.feedback.post

    def note(vote: Any, event: Any) -> None:
        posted.append(vote.voter)
        post(vote, event)

    bus.feedback.post = note  # type: ignore[method-assign]
    steps(link, 10)
    news.wait_for("subscriber_failed", 1, DEADLINE_S)
    # The others have got on while it stands still, here or elsewhere.
    wait_until(lambda: steps_of(tmp_path / "good")[-1:] == [10], "the others wait for it")
    assert 4 not in steps_of(tmp_path / "slow")
    (tmp_path / "go").touch()
    assert bus.flush(DEADLINE_S)
    bus.close()
    written = lines_of(tmp_path / "slow")
    pids = list(dict.fromkeys(line["pid"] for line in written))
    assert len(pids) >= 2
    found = [line["step"] for line in written if line["name"] == "step_end"]
    assert sorted(set(found)) == list(range(1, 11))
    last = [line["step"] for line in written if line["pid"] == pids[-1] and "step" in line]
    assert last == list(range(last[0], 11))
    # What it did in the end in the process that had left it behind counts for nothing.
    assert posted == [f"at {step}" for step in range(1, 11)]
    row = bus.ledger["Slow"]
    assert (row.handled, row.quarantined, row.stuck) == (10, "", False)
    assert row.failures == len(news.events) == len(pids) - 1
    assert news.events[0].error == "the handler of step_end took over 0.3 s"  # type: ignore[attr-defined]
    assert {line["pid"] for line in lines_of(tmp_path / "good")} == {pids[0]}
    assert steps_of(tmp_path / "good") == list(range(1, 11))
    # One of them takes the news of the failures, too.
    for other, count in (("ignore", 10), ("Writer", 10 + len(news.events))):
        assert (bus.ledger[other].handled, bus.ledger[other].failures) == (count, 0)
    assert "in a process of its own (1 of 3). It stands at" in caplog.text
    assert "on_step_end" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("critical", [False, True])
def test_the_fourth_time_is_the_last(make_bus: MakeBus, tmp_path: Path, critical: bool) -> None:
    bus = make_bus()
    slow = handlers.Slow(str(tmp_path / "slow"), at=2)
    bus.subscribe(slow, delivery="process", timeout=0.2, required=True, critical=critical)
    bus.wait_ready()
    link = bus.open_run(TrainerState())
    steps(link, 5)
    assert bus.flush(DEADLINE_S)
    row = bus.ledger["Slow"]
    assert row.quarantined == "the handler of step_end took over 0.2 s, for the last time of 4"
    assert (row.handled, row.dropped) == (1, {"quarantine": 4})
    assert row.failures == MOST_TIMED_OUT + 1
    assert len({line["pid"] for line in lines_of(tmp_path / "slow")}) == MOST_TIMED_OUT + 1
    assert link.votes.is_critical("stop") is critical
    wait_until(lambda: not children(), "a process that serves nobody is still there")


def test_a_set_up_that_does_not_return_is_left_behind(tmp_path: Path) -> None:
    bus = EventBus(setup_timeout=2.0)
    bus.subscribe(handlers.NeverOpen(str(tmp_path / "never")), delivery="process")
    bus.subscribe(Writer(str(tmp_path / "good")), delivery="process", name="good")
    with bus:
        link = bus.open_run(TrainerState())
        link.emit("log", {"logs": {}})
        assert bus.flush(DEADLINE_S)
        assert bus.ledger["NeverOpen"].quarantined == "open() did not return in time"
        assert bus.ledger["NeverOpen"].dropped == {"quarantine": 1}
        assert bus.ledger["good"].handled >= 1
        began = time.monotonic()
    assert time.monotonic() - began < 20, "the end waits for a set-up that nobody waits for"
    assert [line["name"] for line in lines_of(tmp_path / "good")][-1] == "close"


def test_a_required_set_up_that_does_not_return_is_an_error(tmp_path: Path) -> None:
    bus = EventBus(setup_timeout=1.0)
    bus.subscribe(handlers.NeverOpen(str(tmp_path / "a")), delivery="process", required=True)
    with pytest.raises(DeliveryError, match="open\\(\\) did not return in time"):
        bus.start()
    assert not bus.running


def test_who_holds_on_to_a_checkpoint_holds_it_beyond_its_handler(
    bus: EventBus, tmp_path: Path
) -> None:
    bus.subscribe(handlers.Uploader(str(tmp_path / "a")), delivery="process", required=True)
    bus.wait_ready()
    link = bus.open_run(TrainerState())
    leases = [Lease(), Lease()]
    for number, lease in enumerate(leases):
        link.emit("save", {"path": str(tmp_path / f"checkpoint-{number}")}, note=lease)
    assert bus.flush(DEADLINE_S)
    assert [lease.holders for lease in leases] == [("upload",), ("upload",)]
    (tmp_path / "checkpoint-0.go").touch()
    wait_until(lambda: not leases[0].holders, "it was not let go of")
    assert leases[1].holders == ("upload",)
    # Of a process that is gone nobody holds anything.
    os.kill(lines_of(tmp_path / "a")[0]["pid"], signal.SIGKILL)
    wait_until(lambda: not leases[1].holders, "it was not let go of")
