"""Handlers in another process: what they get, what comes back, and how it ends."""

from __future__ import annotations

import functools
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stepbus.bus import EventBus, Lease, RunLink
from stepbus.bus.testing import Recorder
from stepbus.schemas import DeliveryError, Event, TrainerState, Vote
from tests.bus.sidecar import handlers
from tests.bus.sidecar.handlers import Writer, lines_of

MakeBus = Callable[..., EventBus]


def steps(link: RunLink, count: int, **values: Any) -> None:
    for _ in range(count):
        link.state.global_step += 1
        link.emit("step_end", values)


def rows(bus: EventBus) -> dict[str, Any]:
    return {row.subscriber: row for row in bus.ledger}


def test_events_come_in_order_in_one_process_without_torch(
    make_bus: MakeBus, tmp_path: Path
) -> None:
    bus = make_bus()
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        bus.subscribe(Writer(path), delivery="process", required=True, name=path[-1])
    bus.wait_ready()
    link = bus.open_run(TrainerState(), run_id="r")
    steps(link, 3_000, loss=1.5)
    assert bus.flush(30)
    bus.close()
    pids = set()
    for path in paths:
        lines = lines_of(path)
        assert [line["name"] for line in lines] == ["open", *["step_end"] * 3_000, "close"]
        assert [line["step"] for line in lines[1:-1]] == list(range(1, 3_001))
        assert [line["seq"] for line in lines[1:-1]] == list(range(3_000))
        assert lines[-1]["torch"] is False
        pids |= {line["pid"] for line in lines}
    assert len(pids) == 1
    assert os.getpid() not in pids
    assert rows(bus)["a"].handled == 3_000
    assert rows(bus)["a"].delivery == "process"
    assert rows(bus)["a"].handler_s > 0


def test_it_is_out_of_the_trainings_way(tmp_path: Path, request: Any) -> None:
    bus = EventBus()
    bus.subscribe(handlers.Placed(str(tmp_path / "a")), delivery="process", required=True)
    request.addfinalizer(bus.close)
    bus.start()
    link = bus.open_run(TrainerState())
    steps(link, 1)
    assert bus.flush(30)
    (line,) = [line for line in lines_of(tmp_path / "a") if line["name"] == "placed"]
    assert line["nice"] == 19
    assert line["group"] == line["pid"]
    assert line["session"] == os.getsid(0)
    assert line["cwd"] == str(Path.cwd())
    assert line["ignored"] == [True, True, True]
    assert not {"torch", "tensorboard", "matplotlib"} & set(line["modules"])
    assert line["engine"] is False
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(line["pid"], number)
    steps(link, 1)
    assert bus.flush(30)
    assert [found["pid"] for found in lines_of(tmp_path / "a")] == [line["pid"]] * 3


def test_an_own_process_is_nobody_elses(make_bus: MakeBus, tmp_path: Path) -> None:
    bus = make_bus()
    for name in ("a", "b", "c"):
        writer = Writer(str(tmp_path / name))
        bus.subscribe(writer, delivery="process", own=name == "b", name=name, required=True)
    bus.wait_ready()
    pids = [lines_of(tmp_path / name)[0]["pid"] for name in ("a", "b", "c")]
    assert pids[0] == pids[2]
    assert pids[1] != pids[0]


def test_values_and_events_of_ones_own_cross(make_bus: MakeBus, tmp_path: Path) -> None:
    class Unknown(Event):
        name: str = "test_unknown_there"
        size: int

    bus = make_bus()
    path = tmp_path / "a"
    bus.subscribe(Writer, arguments={"path": str(path)}, delivery="process", required=True)
    bus.wait_ready()
    link = bus.open_run(TrainerState(), run_id="r\u00e4")
    link.emit("log", {"logs": {"nan": math.nan, "low": -math.inf, "text": "\udcff \u2028"}})
    steps(link, 1, loss=math.inf)
    bus.publish(handlers.Spike(ratio=2.5))
    bus.publish(Unknown(size=3))
    assert bus.flush(30)
    log, step, spike, unknown = lines_of(path)[1:]
    assert '"nan":"NaN","low":"-Infinity"' in log["content"]
    assert "\u2028" in log["content"]
    assert log["run_id"] == "r\u00e4"
    assert '"loss":"Infinity"' in step["content"]
    assert (spike["made"], spike["seq"]) == ("Spike", 2)
    assert '"ratio":2.5' in spike["content"]
    assert (unknown["made"], unknown["seq"]) == ("UnknownEvent", 3)
    assert '"size":3' in unknown["content"]


def test_votes_act_for_the_run_of_their_event(bus: EventBus) -> None:
    verdicts = Recorder()
    bus.subscribe("verdict")(verdicts)
    bus.subscribe("step_end", delivery="process", required=True)(handlers.save_at_three)
    bus.wait_ready()
    first = bus.open_run(TrainerState(), run_id="first")
    second = bus.open_run(TrainerState(), run_id="second")
    steps(second, 4)
    assert bus.flush(30)
    assert not first.votes.has_votes
    outcome = second.votes.decide("save", 4)
    assert outcome is not None
    (cast,) = outcome.casts
    assert (cast.vote.voter, cast.vote.reason, cast.vote.step) == ("save_at_three", "three", 3)
    assert second.votes.decide("log", 4) is not None
    bus.close_run(second)
    steps(first, 2)
    bus.close_run(first)
    # Its events of the third step come after the run's end.
    first.state.global_step = 2
    steps(first, 1)
    assert bus.flush(30)
    late = verdicts.wait_for("verdict", 2)
    assert {event.outcome for event in late} == {"late"}
    assert [(v.run_id, v.action, v.seen_at) for v in late] == [
        ("first", "save", 3),
        ("first", "log", 3),
    ]
    assert rows(bus)["save_at_three"].votes == 4


def test_filters_and_predicates_hold(make_bus: MakeBus, tmp_path: Path) -> None:
    bus = make_bus()
    subscribe = functools.partial(bus.subscribe, "step_end", delivery="process")
    subscribe(name="all")(handlers.ignore)
    subscribe(name="every", every=5)(handlers.ignore)
    subscribe(name="when", when=handlers.is_even)(handlers.ignore)
    bus.wait_ready()
    steps(bus.open_run(TrainerState()), 20)
    assert bus.flush(30)
    assert {name: row.handled for name, row in rows(bus).items()} == {
        "all": 20,
        "every": 4,
        "when": 10,
    }


def test_failures_are_those_of_any_subscriber(bus: EventBus, caplog: Any) -> None:
    news = Recorder()
    bus.subscribe("subscriber_failed")(news)
    bus.subscribe("step_end", delivery="process", quarantine_after=3)(handlers.fail)
    bus.subscribe("step_end", delivery="process", retries=1)(handlers.fail_once)
    bus.wait_ready()
    steps(bus.open_run(TrainerState()), 10)
    assert bus.flush(30)
    failed, once = rows(bus)["fail"], rows(bus)["fail_once"]
    assert (failed.failures, failed.handled) == (3, 0)
    assert failed.dropped == {"quarantine": 7}
    assert failed.quarantined == "3 failures in a row, the last: ValueError: no 3"
    assert (once.failures, once.retries, once.handled) == (0, 1, 10)
    found = news.wait_for("subscriber_failed", 3)
    assert [(e.subscriber, e.error, e.event_seq, e.failures, e.quarantined) for e in found] == [
        ("fail", "ValueError: no 1", 0, 1, False),
        ("fail", "ValueError: no 2", 1, 2, False),
        ("fail", "ValueError: no 3", 2, 3, True),
    ]
    assert "subscriber fail failed on step_end (step 1)" in caplog.text
    assert 'raise ValueError(f"no {event.step}")' in caplog.text
    assert "subscriber fail is quarantined" in caplog.text


def test_a_critical_failure_stops_the_run(bus: EventBus) -> None:
    bus.subscribe("step_end", delivery="process", critical=True)(handlers.fail)
    bus.wait_ready()
    link = bus.open_run(TrainerState())
    steps(link, 1)
    assert bus.flush(30)
    assert link.votes.is_critical("stop")


@pytest.mark.parametrize("kind", [handlers.BadSetUp, handlers.BadConstructor])
def test_a_required_one_that_cannot_be_set_up_is_an_error(kind: Any) -> None:
    bus = EventBus()
    arguments = {"trainer": os.getpid()} if kind is handlers.BadConstructor else {}
    bus.subscribe(kind, arguments=arguments, delivery="process", required=True)
    with pytest.raises(DeliveryError, match=r"was asked for.*(no server|not here)"):
        bus.start()
    assert not bus.running


def test_one_that_is_not_required_is_given_up(bus: EventBus) -> None:
    news = Recorder()
    bus.subscribe("subscriber_failed")(news)
    link = bus.open_run(TrainerState())
    bus.subscribe(handlers.BadSetUp, delivery="process")
    bus.subscribe(handlers.BadConstructor, arguments={"trainer": os.getpid()}, delivery="process")
    bus.wait_ready()
    link.emit("log", {"logs": {}})
    assert bus.flush(30)
    assert rows(bus)["BadSetUp"].quarantined == "open() failed: ConnectionError: no server"
    assert rows(bus)["BadConstructor"].quarantined == "open() failed: RuntimeError: not here"
    assert {event.subscriber for event in news.wait_for("subscriber_failed", 2)} == {
        "BadSetUp",
        "BadConstructor",
    }
    assert rows(bus)["BadSetUp"].dropped == {"quarantine": 1}


def test_what_hangs_is_killed_at_the_deadline_and_named(make_bus: MakeBus, caplog: Any) -> None:
    bus = make_bus()
    bus.subscribe("step_end", delivery="process")(handlers.hang)
    bus.wait_ready()
    steps(bus.open_run(TrainerState()), 5)
    assert not bus.flush(0.2)
    began = time.monotonic()
    bus.close(timeout=1.0)
    assert time.monotonic() - began < 10
    assert "hang does not return from its handler of step_end (step 1)" in caplog.text
    assert "its process is killed, 5 events were not delivered" in caplog.text
    assert rows(bus)["hang"].dropped == {"deadline": 5}


def test_a_checkpoint_is_held_until_it_is_handled(bus: EventBus, tmp_path: Path) -> None:
    bus.subscribe("save", delivery="process")(handlers.wait_for_file)
    bus.wait_ready()
    lease = Lease()
    folder = tmp_path / "checkpoint-1"
    link = bus.open_run(TrainerState())
    link.emit("save", {"path": str(folder)}, note=lease)
    assert not bus.flush(0.2)
    assert lease.holders == ("wait_for_file",)
    (tmp_path / "checkpoint-1.go").touch()
    assert bus.flush(30)
    assert not lease.holders


def test_it_may_be_unsubscribed_and_started_again(make_bus: MakeBus, tmp_path: Path) -> None:
    bus = make_bus()
    link = bus.open_run(TrainerState())
    writer = Writer(str(tmp_path / "a"))
    bus.subscribe(writer, delivery="process", required=True)
    bus.wait_ready()
    steps(link, 1)
    assert bus.flush(30)
    bus.unsubscribe(writer)
    steps(link, 1)
    bus.close_run(link)
    bus.stop()
    other = Writer(str(tmp_path / "b"))
    bus.subscribe(other, delivery="process", required=True)
    for _ in range(2):
        bus.start()
        link = bus.open_run(TrainerState())
        steps(link, 1)
        bus.close_run(link)
        bus.stop()
    whole = ["open", "step_end", "close"]
    assert [line["name"] for line in lines_of(tmp_path / "a")] == whole
    assert [line["name"] for line in lines_of(tmp_path / "b")] == whole * 2
    assert len({line["pid"] for line in lines_of(tmp_path / "b")}) == 2


def test_a_handler_prints_to_the_error_stream(bus: EventBus, capfd: Any) -> None:
    bus.subscribe("step_end", delivery="process")(handlers.say)
    bus.wait_ready()
    steps(bus.open_run(TrainerState()), 1)
    assert bus.flush(30)
    out, err = capfd.readouterr()
    assert "printed 1" in err
    assert out == ""


def test_a_forked_child_has_none_of_its_pipes(bus: EventBus) -> None:
    bus.subscribe("step_end", delivery="process", required=True)(handlers.save_at_three)
    bus.wait_ready()
    link = bus.open_run(TrainerState())

    def pipes() -> set[str]:
        return {
            name
            for entry in Path("/proc/self/fd").iterdir()
            if entry.is_symlink() and (name := str(entry.readlink())).startswith("pipe:")
        }

    feeder = bus._workforce._feeder
    assert feeder is not None
    ours = {str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in feeder.descriptors}
    assert len(ours) == 3
    assert ours <= pipes()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        left = ours & pipes()
        os.write(write, b"clean" if not left else str(left).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 1000) == b"clean"
    os.close(read)
    steps(link, 3)
    assert bus.flush(30)
    assert link.votes.has_votes


def test_a_vote_that_is_not_json_loses_nothing() -> None:
    vote = Vote("save", reason="\udcff", voter="x", expires_after_s=2.0)
    from stepbus.bus.sidecar.messages import decode, encode

    message = decode(encode("vote", of=1, at=2, index=0, vote=vote.model_dump()))
    assert Vote(**message["vote"]).reason == "\\udcff"


def test_a_process_that_falls_behind_gets_everything_from_the_log(
    make_bus: MakeBus, tmp_path: Path
) -> None:
    bus = make_bus()
    path = tmp_path / "a"
    bus.subscribe(Writer(str(path)), delivery="process", mailbox_size=10, name="it")
    link = bus.open_run(TrainerState())
    # While its process starts: more than it is sent at a time, and than its mailbox holds.
    steps(link, 6_000, loss=1.5)
    assert bus.flush(60)
    assert rows(bus)["it"].spilled > 0
    bus.close()
    assert [line["step"] for line in lines_of(path)[1:-1]] == list(range(1, 6_001))


@pytest.mark.parametrize("kind", [handlers.Lost, handlers.Deaf])
def test_one_that_fails_to_say_where_it_writes_harms_nobody(
    make_bus: MakeBus, tmp_path: Path, kind: type[Writer]
) -> None:
    bus = make_bus()
    paths = [str(tmp_path / name) for name in "ab"]
    for writer in (kind(paths[0]), Writer(paths[1])):
        bus.subscribe(writer, delivery="process", required=True)
    bus.wait_ready()
    steps(bus.open_run(TrainerState(), run_id="r"), 100)
    assert bus.flush(30)
    bus.close()
    for path in paths:
        assert [line["name"] for line in lines_of(path)] == ["open", *["step_end"] * 100, "close"]
