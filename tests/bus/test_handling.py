"""Handlers that fail: counted, retried, quarantined, heard of by others; the run goes on."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stepbus.bus import EventBus, LedgerRow, RunLink, Subscriber, handling
from stepbus.bus.testing import Recorder
from stepbus.schemas import DeliveryError, Event, Log, StepEnd, SubscriberFailed, TrainerState, Vote

MakeBus = Callable[..., EventBus]
DELIVERIES = pytest.mark.parametrize("delivery", ["thread", "loop", "gate"])


def handler_for(delivery: Any, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    if delivery != "loop":
        return function

    async def asynchronous(event: Event) -> Any:
        return function(event)

    return asynchronous


def emit_steps(bus: EventBus, count: int, link: RunLink | None = None) -> RunLink:
    link = link or bus.open_run(TrainerState())
    for _ in range(count):
        link.state.global_step += 1
        link.emit("step_end")
    # Once for the steps, once for the failures that they made.
    assert bus.flush(10)
    assert bus.flush(10)
    return link


def row_of(bus: EventBus, name: str) -> LedgerRow:
    return next(row for row in bus.ledger if row.subscriber == name)


@DELIVERIES
def test_a_failure_is_counted_logged_once_per_kind_and_heard_of_by_others(
    bus: EventBus, delivery: Any, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    def fail(event: StepEnd) -> None:
        seen.append(event.step)
        if event.step in (1, 2):
            raise ValueError(f"no {event.step}")
        if event.step == 4:
            raise KeyError("another kind")

    bus.subscribe("step_end", delivery=delivery, name="bad")(handler_for(delivery, fail))
    others = Recorder()
    bus.subscribe("step_end", SubscriberFailed)(others)
    emit_steps(bus, 5)
    assert seen == [1, 2, 3, 4, 5]
    row = row_of(bus, "bad")
    assert (row.handled, row.failures, row.quarantined) == (2, 3, "")
    assert caplog.text.count("subscriber bad failed on step_end") == 2
    assert "ValueError: no 1" in caplog.text
    assert "no 2" not in caplog.text
    assert len(others.of(StepEnd)) == 5
    failed = others.of(SubscriberFailed)
    assert [f.error for f in failed] == [
        "ValueError: no 1",
        "ValueError: no 2",
        "KeyError: 'another kind'",
    ]
    assert [f.failures for f in failed] == [1, 2, 3]
    assert {f.event_name for f in failed} == {"step_end"}


@DELIVERIES
def test_after_n_failures_in_a_row_it_is_quarantined_and_its_teardown_still_runs(
    make_bus: MakeBus, delivery: Any, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []
    seen: list[int] = []

    def fail(event: StepEnd) -> None:
        seen.append(event.step)
        if event.step != 3:
            raise ValueError("no")

    class Bad(Subscriber):
        def on_step_end(self, event: StepEnd) -> None:
            fail(event)

        def close(self) -> None:
            closed.append("closed")

    class AsyncBad(Subscriber):
        async def on_step_end(self, event: StepEnd) -> None:
            fail(event)

        async def close(self) -> None:
            closed.append("closed")

    bus = make_bus()
    bad = AsyncBad() if delivery == "loop" else Bad()
    bus.subscribe(bad, delivery=delivery, quarantine_after=3, name="bad")
    others = Recorder()
    bus.subscribe(SubscriberFailed)(others)
    link = emit_steps(bus, 10)
    assert seen == [1, 2, 3, 4, 5, 6]
    row = row_of(bus, "bad")
    assert (row.handled, row.failures, row.dropped) == (1, 5, {"quarantine": 4})
    assert row.quarantined == "3 failures in a row, the last: ValueError: no"
    assert "bad is quarantined" in caplog.text
    assert [f.quarantined for f in others.of(SubscriberFailed)] == [False] * 4 + [True]
    bus.close_run(link)
    bus.close()
    assert closed == ["closed"]


@pytest.mark.parametrize("delivery", ["thread", "loop"])
def test_a_retry_keeps_its_place(
    make_bus: MakeBus, delivery: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "RETRY_DELAY_S", 0.001)
    bus = make_bus()
    calls: list[int] = []

    def flaky(event: StepEnd) -> None:
        calls.append(event.step)
        if event.step == 2 and calls.count(2) < 3:
            raise OSError("busy")
        if event.step == 4:
            raise OSError("gone")

    bus.subscribe("step_end", retries=2, name="flaky")(handler_for(delivery, flaky))
    others = Recorder()
    bus.subscribe(SubscriberFailed)(others)
    emit_steps(bus, 5)
    assert calls == [1, 2, 2, 2, 3, 4, 4, 4, 5]
    row = row_of(bus, "flaky")
    assert (row.handled, row.failures, row.retries) == (4, 1, 4)
    assert [f.event_seq for f in others.of(SubscriberFailed)] == [3]


def test_retries_wait_longer_each_time_up_to_a_bound(bus: EventBus) -> None:
    bus.subscribe("log", retries=100)(lambda event: None)
    subscription = bus._roster.subscriptions[0]
    each = handling.Handling(subscription, bus.feedback)
    event = Log(logs={})
    delays = [each.failed(event, OSError(), tries=tries) for tries in range(1, 9)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert each.failed(event, OSError(), tries=101) is None


@DELIVERIES
def test_a_critical_failure_is_a_stop_vote_beyond_any_veto(bus: EventBus, delivery: Any) -> None:
    def fail(event: StepEnd) -> None:
        raise ValueError("the licence server is gone")

    bus.subscribe("step_end", delivery=delivery, critical=True, name="bad")(
        handler_for(delivery, fail)
    )
    link = emit_steps(bus, 1)
    bus.vote("stop", voter="optimist", reason="still improving")
    bus.vote(Vote("stop", against=True, voter="optimist"))
    bus.vote(Vote("stop", voter="bad", withdrawn=True))
    outcome = link.votes.decide("stop", 1)
    assert outcome is not None
    assert outcome.decision.carried
    vote = outcome.decision.votes[0]
    assert (vote.voter, vote.critical, vote.step) == ("bad", True, 1)
    assert "ValueError: the licence server is gone" in vote.reason
    assert "Traceback" in vote.reason
    assert [v.voter for v in outcome.decision.vetoes] == ["optimist"]


def test_failures_on_failures_do_not_go_on_for_ever(bus: EventBus) -> None:
    calls: list[str] = []

    def make(name: str) -> None:
        @bus.subscribe("subscriber_failed", quarantine_after=10**6, name=name)
        def handler(event: SubscriberFailed) -> None:
            calls.append(f"{name} on {event.subscriber}")
            raise ValueError("I fail at failures")

    make("one")
    make("two")

    @bus.subscribe("step_end", name="bad")
    def bad(event: StepEnd) -> None:
        raise ValueError

    emit_steps(bus, 1)
    assert bus.flush(10)
    assert sorted(calls) == ["one on bad", "two on bad"]


def test_who_failed_is_not_told_of_it_but_a_namesake_is(bus: EventBus) -> None:
    class Probe(Recorder):
        def on_event(self, event: Event) -> None:
            super().on_event(event)
            if event.name == "step_end" and self is first:
                raise ValueError

    first, second = Probe(), Probe()
    bus.subscribe(first)
    bus.subscribe(second)
    emit_steps(bus, 1)
    assert bus.flush(10)
    assert first.kinds == ["step_end"]
    assert second.kinds == ["step_end", "subscriber_failed"]


@DELIVERIES
@pytest.mark.parametrize("nonsense", [True, 17, "save", {"action": "save"}, ["save"], [None]])
def test_a_nonsense_result_is_said_once_and_changes_nothing_else(
    bus: EventBus, delivery: Any, nonsense: object, caplog: pytest.LogCaptureFixture
) -> None:
    others = Recorder()
    bus.subscribe(SubscriberFailed)(others)
    bus.subscribe("step_end", delivery=delivery, critical=True, name="odd")(
        handler_for(delivery, lambda event: nonsense)
    )
    link = emit_steps(bus, 8)
    assert bus.flush(10)
    row = row_of(bus, "odd")
    assert (row.handled, row.failures, row.quarantined, row.votes) == (8, 8, "", 0)
    assert caplog.text.count("subscriber odd failed on step_end") == 1
    assert "return" in others.of(SubscriberFailed)[0].error
    assert len(others.events) == 1
    assert not link.votes.has_votes


def test_votes_from_a_generator_that_raises_are_a_failure(bus: EventBus) -> None:
    def broken() -> Iterator[Vote]:
        yield Vote("save")
        raise ZeroDivisionError

    bus.subscribe("step_end", name="odd")(lambda event: broken())
    link = emit_steps(bus, 2)
    assert row_of(bus, "odd").failures == 2
    assert not link.votes.has_votes


@DELIVERIES
def test_a_predicate_that_raises_is_a_failure_of_its_subscriber(
    bus: EventBus, delivery: Any
) -> None:
    def broken(event: StepEnd) -> bool:
        raise AttributeError("no such field")

    bus.subscribe("step_end", delivery=delivery, when=broken, quarantine_after=2, name="odd")(
        handler_for(delivery, lambda event: None)
    )
    emit_steps(bus, 5)
    row = row_of(bus, "odd")
    assert (row.handled, row.failures, row.dropped) == (0, 2, {"quarantine": 3})


@DELIVERIES
def test_votes_are_signed_with_the_subscriber_and_the_step_it_saw(
    bus: EventBus, delivery: Any
) -> None:
    results: list[Any] = [
        Vote("save"),
        [Vote("log", reason="why"), Vote("evaluate", voter="me", step=77)],
        (),
        None,
    ]
    bus.subscribe("step_end", delivery=delivery, name="voter")(
        handler_for(delivery, lambda event: results[event.step - 1])
    )
    link = emit_steps(bus, 4)
    found = {}
    for action in ("save", "log", "evaluate"):
        outcome = link.votes.decide(action, 4)
        assert outcome is not None
        found[action] = outcome.decision.votes[0]
    assert (found["save"].voter, found["save"].step) == ("voter", 1)
    assert (found["log"].voter, found["log"].step, found["log"].reason) == ("voter", 2, "why")
    assert (found["evaluate"].voter, found["evaluate"].step) == ("me", 77)
    assert row_of(bus, "voter").votes == 3


def test_a_flood_of_votes_takes_no_memory(bus: EventBus) -> None:
    bus.subscribe("step_end", name="flood")(
        lambda event: [Vote("save", reason=str(n)) for n in range(200)]
    )
    link = emit_steps(bus, 100)
    assert row_of(bus, "flood").votes == 20_000
    assert sum(len(casts) for casts in link.votes._standing.values()) == 1
    outcome = link.votes.decide("save", 100)
    assert outcome is not None
    assert outcome.decision.votes[0].reason == "199"
    assert link.votes.decide("save", 100) is None


class Broken(Recorder):
    def open(self) -> None:
        raise ConnectionError("no server at localhost:1")


class BrokenAsync(Subscriber):
    async def open(self) -> None:
        raise ConnectionError("no server at localhost:1")

    async def on_step_end(self, event: StepEnd) -> None:
        raise AssertionError("never called")


@pytest.mark.parametrize("subscriber", [Broken, BrokenAsync])
def test_a_set_up_that_fails_costs_the_subscriber_alone(
    subscriber: type[Subscriber], caplog: pytest.LogCaptureFixture
) -> None:
    others = Recorder()
    with EventBus() as bus:
        link = bus.open_run(TrainerState())
        bus.subscribe("step_end", "subscriber_failed")(others)
        bus.subscribe(subscriber(), name="broken")
        others.wait_for(SubscriberFailed)
        emit_steps(bus, 3, link)
        row = row_of(bus, "broken")
    assert row.quarantined == "open() failed: ConnectionError: no server at localhost:1"
    assert row.handled == 0
    assert row.dropped["quarantine"] >= 3
    assert len(others.of(StepEnd)) == 3


@pytest.mark.parametrize("subscriber", [Broken, BrokenAsync])
def test_a_required_set_up_that_fails_is_an_error_and_leaves_no_thread(
    subscriber: type[Subscriber],
) -> None:
    bus = EventBus()
    bus.subscribe("step_end")(Recorder())
    bus.subscribe(subscriber(), required=True)
    with pytest.raises(DeliveryError, match=r"could not be set up.*no server at") as error:
        bus.start()
    assert isinstance(error.value.__cause__, ConnectionError)
    assert not bus.running
    with pytest.raises(DeliveryError), bus:
        raise AssertionError("never entered")


def test_a_set_up_that_hangs_is_given_up_and_an_error_where_required() -> None:
    release = threading.Event()

    class Hanging(Recorder):
        def open(self) -> None:
            release.wait(60)

    others = Recorder()
    bus = EventBus(setup_timeout=0.05)
    hanging = bus.subscribe(Hanging())
    bus.subscribe("step_end")(others)
    bus.start()
    assert row_of(bus, "Hanging").quarantined == "open() did not return in time"
    emit_steps(bus, 0)
    link = bus.open_run(TrainerState())
    link.emit("step_end")
    others.wait_for("step_end")
    release.set()
    bus.close()
    assert hanging.events == []
    release.clear()
    bus = EventBus(setup_timeout=0.05)
    bus.subscribe(Hanging(), required=True)
    with pytest.raises(DeliveryError, match="did not return in time"):
        bus.start()
    release.set()
    for thread in threading.enumerate():
        if thread.name == "stepbus-Hanging":
            thread.join(10)


def test_a_critical_set_up_that_fails_stops_the_run() -> None:
    bus = EventBus()
    bus.subscribe(Broken(), critical=True)
    with bus:
        link = bus.open_run(TrainerState())
        outcome = link.votes.decide("stop", 0)
        assert outcome is not None
        assert "could not be set up" in outcome.decision.votes[0].reason


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_teardown_that_raises_is_said_and_harms_nobody(
    asynchronous: bool, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []

    class Bad(Recorder):
        def close(self) -> None:
            raise OSError("disk full")

    class AsyncBad(Subscriber):
        async def on_step_end(self, event: StepEnd) -> None: ...

        async def close(self) -> None:
            raise OSError("disk full")

    class Good(Recorder):
        def close(self) -> None:
            closed.append("good")

    with EventBus() as bus:
        bus.subscribe(AsyncBad() if asynchronous else Bad(), name="bad")
        bus.subscribe(Good())
        emit_steps(bus, 1)
    assert closed == ["good"]
    assert "subscriber bad failed in its close()" in caplog.text
    assert "OSError: disk full" in caplog.text
    assert bus.ledger[0].failures == 1


def test_gate_subscribers_are_set_up_and_torn_down_on_the_training_thread() -> None:
    called: list[tuple[str, int]] = []

    class Gated(Subscriber):
        delivery = "gate"

        def open(self) -> None:
            called.append(("open", threading.get_ident()))

        def on_step_end(self, event: StepEnd) -> None:
            called.append(("step", threading.get_ident()))

        def close(self) -> None:
            called.append(("close", threading.get_ident()))

    here = threading.get_ident()
    with EventBus() as bus:
        bus.subscribe(Gated())
        link = emit_steps(bus, 1)
        bus.close_run(link)
    assert called == [("open", here), ("step", here), ("close", here)]


def test_a_required_gate_whose_set_up_fails_is_an_error_before_the_first_step() -> None:
    with EventBus() as bus:
        bus.subscribe(Broken(), delivery="gate", required=True)
        with pytest.raises(DeliveryError, match="could not be set up"):
            bus.open_run(TrainerState(), run_id="one")
        assert bus._roster.links == []
