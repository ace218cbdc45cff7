"""`bus.subscribe` in all its forms, and one clear error for each wrong one."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from stepbus.bus import EventBus, Subscriber, TrainerCallback, on
from stepbus.bus.testing import Recorder
from stepbus.schemas import (
    ArgumentError,
    BusClosedError,
    Event,
    Log,
    Save,
    Stalled,
    StepEnd,
    TrainerState,
    VotePolicy,
)

MakeBus = Callable[..., EventBus]
AnyBus: Callable[..., EventBus] = EventBus


class Ping(Event):
    name: Literal["subscribing_test_ping"] = "subscribing_test_ping"


def run_a_step(bus: EventBus) -> None:
    state = TrainerState()
    link = bus.open_run(state)
    state.global_step += 1
    link.emit("step_end", {"loss": 1.0})
    link.emit("log", {"logs": {"loss": 1.0}})
    bus.publish(Ping())
    assert bus.flush(10)
    bus.close_run(link)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (("step_end",), ["step_end"]),
        ((StepEnd,), ["step_end"]),
        (("step_end", "log"), ["step_end", "log"]),
        ((StepEnd, Log), ["step_end", "log"]),
        (("log", Ping), ["log", "subscribing_test_ping"]),
        (("subscribing_test_ping",), ["subscribing_test_ping"]),
        (("*",), ["step_end", "log", "subscribing_test_ping"]),
        (("*", "log"), ["step_end", "log", "subscribing_test_ping"]),
        (("log", "log"), ["log"]),
    ],
)
def test_an_event_is_named_or_given_as_a_class_or_all_are_taken(
    bus: EventBus, events: tuple[Any, ...], expected: list[str]
) -> None:
    recorder = Recorder()
    bus.subscribe(*events)(recorder)
    run_a_step(bus)
    assert recorder.kinds == expected


def test_the_decorator_gives_the_function_back(bus: EventBus) -> None:
    def handler(event: Event) -> int:
        return 3

    by_name: object = bus.subscribe("step_end")(handler)
    by_class: object = bus.subscribe(Log, delivery="gate")(handler)
    assert by_name is by_class is handler


def test_functions_methods_partials_and_callable_objects(bus: EventBus) -> None:
    seen: list[str] = []

    class Probe:
        def method(self, event: Event) -> None:
            seen.append("method")

        @staticmethod
        def static(event: Event) -> None:
            seen.append("static")

        def __call__(self, event: Event) -> None:
            seen.append("object")

    def function(label: str, event: Event) -> None:
        seen.append(label)

    async def asynchronous(label: str, event: Event) -> None:
        seen.append(label)

    class AsyncProbe:
        async def __call__(self, event: Event) -> None:
            seen.append("async object")

    probe = Probe()
    for handler in (
        probe.method,
        Probe.static,
        probe,
        lambda event: seen.append("lambda"),
        functools.partial(function, "partial"),
        functools.partial(asynchronous, "async partial"),
        AsyncProbe(),
    ):
        bus.subscribe("step_end")(handler)
    deliveries = {row.subscriber: row.delivery for row in bus.ledger}
    assert deliveries["asynchronous"] == deliveries["AsyncProbe"] == "loop"
    assert deliveries["function"] == deliveries["Probe"] == "thread"
    run_a_step(bus)
    assert sorted(seen) == sorted(
        ["method", "static", "object", "lambda", "partial", "async partial", "async object"]
    )


def test_a_subscriber_has_a_method_for_each_kind_it_wants(bus: EventBus) -> None:
    seen: list[str] = []

    class Base(Subscriber):
        def on_step_end(self, event: StepEnd) -> None:
            seen.append(f"step {event.step}")

    class Probe(Base):
        def on_subscribing_test_ping(self, event: Ping) -> None:
            seen.append("ping")

        def on_event(self, event: Event) -> None:
            seen.append(f"other {event.name}")

    probe = Probe()
    assert bus.subscribe(probe, name="me") is probe
    run_a_step(bus)
    assert seen == ["step 1", "other log", "ping"]
    assert [row.subscriber for row in bus.ledger] == ["me"]


def test_methods_of_a_subscriber_have_filters_of_their_own(bus: EventBus) -> None:
    seen: list[int] = []

    class Probe(Subscriber):
        @on(every=2, after=2)
        def on_step_end(self, event: StepEnd) -> None:
            seen.append(event.step)

    bus.subscribe(Probe())
    state = TrainerState()
    link = bus.open_run(state)
    for _ in range(8):
        state.global_step += 1
        link.emit("step_end")
    assert bus.flush(10)
    assert seen == [4, 6, 8]


def test_class_attributes_are_the_defaults_and_arguments_win() -> None:
    class Probe(Recorder):
        overflow = "latest"
        critical = True
        timeout = 5.0

    with EventBus() as bus:
        bus.subscribe(Probe(), critical=False)
        subscription = bus._roster.subscriptions[0]
        assert subscription.options.overflow == "latest"
        assert subscription.options.timeout == 5.0
        assert subscription.options.critical is False


def test_unsubscribing_ends_it_and_runs_the_teardown(bus: EventBus) -> None:
    ended: list[str] = []

    class Probe(Recorder):
        def close(self) -> None:
            ended.append("closed")

    probe, function = Probe(), Recorder()

    class Holder:
        def method(self, event: Event) -> None:
            function(event)

    holder = Holder()
    bus.subscribe(probe)
    bus.subscribe("step_end")(holder.method)
    run_a_step(bus)
    bus.unsubscribe(probe)
    bus.unsubscribe(holder.method)
    assert not bus.ledger.rows
    run_a_step(bus)
    assert probe.kinds == ["step_end", "log", "subscribing_test_ping"]
    assert function.kinds == ["step_end"]
    with pytest.raises(ArgumentError, match="is not subscribed"):
        bus.unsubscribe(probe)
    bus.close()
    assert ended == ["closed"]


def test_unsubscribing_still_handles_what_is_in_the_mailbox(bus: EventBus) -> None:
    recorder = Recorder()
    bus.subscribe("step_end")(recorder)
    link = bus.open_run(TrainerState())
    for _ in range(500):
        link.emit("step_end")
    assert bus._pump is not None
    assert bus._pump.drain(10)
    bus.unsubscribe(recorder)
    bus.close()
    assert len(recorder.events) == 500


def test_of_two_equal_subscribers_only_the_one_given_is_unsubscribed(bus: EventBus) -> None:
    @dataclass
    class Equal(Subscriber):
        label: str = ""

        def on_log(self, event: Log) -> None: ...

    one, other = Equal(), Equal()
    assert one == other
    bus.subscribe(one)
    bus.subscribe(other)
    bus.unsubscribe(one)
    assert [s.target is other for s in bus._roster.subscriptions] == [True]


def test_subscribing_before_the_start_and_while_running(make_bus: MakeBus) -> None:
    bus = EventBus()
    before, after = Recorder(), Recorder()
    bus.subscribe("step_end")(before)
    with bus:
        bus.subscribe("step_end")(after)
        run_a_step(bus)
    assert before.kinds == after.kinds == ["step_end"]


async def handle_async(event: Event) -> None: ...


def handle(event: Event) -> None: ...


def no_argument() -> None: ...


def two_arguments(event: Event, other: int) -> None: ...


def generator(event: Event) -> Iterator[int]:
    yield 1


async def async_generator(event: Event) -> AsyncIterator[int]:
    yield 1


class Mixed(Subscriber):
    def on_log(self, event: Log) -> None: ...

    async def on_save(self, event: Save) -> None: ...


class Idle(Subscriber):
    def open(self) -> None: ...


class Quiet(Subscriber):
    def on_log(self, event: Log) -> None: ...


class OldStyle(TrainerCallback): ...


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda b: b.subscribe("step_ends")(handle), "did you mean 'step_end'"),
        (lambda b: b.subscribe("zzz")(handle), "known: artifact, batch_size_retry"),
        (lambda b: b.subscribe(), "needs an event"),
        (lambda b: b.subscribe(int)(handle), "is no event"),
        (lambda b: b.subscribe(3)(handle), "is no event"),
        (lambda b: b.subscribe(handle), "needs an event before the handler"),
        (lambda b: b.subscribe(OldStyle()), "give it to the run, callbacks="),
        (lambda b: b.subscribe(OldStyle), "give it to the run, callbacks="),
        (lambda b: b.subscribe("log", evry=5)(handle), "no option 'evry': did you mean 'every'"),
        (lambda b: b.subscribe("log", every=0)(handle), "every=0: give a whole number"),
        (lambda b: b.subscribe("log", every=-2)(handle), "every=-2"),
        (lambda b: b.subscribe("log", timeout=0)(handle), "timeout=0: give seconds above 0"),
        (lambda b: b.subscribe("log", timeout=-1.5)(handle), "timeout=-1.5"),
        (lambda b: b.subscribe("log", timeout="5")(handle), "timeout='5'"),
        (lambda b: b.subscribe("log", interval_s=0)(handle), "interval_s=0"),
        (lambda b: b.subscribe("log", mailbox_size=0)(handle), "mailbox_size=0"),
        (lambda b: b.subscribe("log", mailbox_size=-5)(handle), "mailbox_size=-5"),
        (lambda b: b.subscribe("log", retries=-1)(handle), "retries=-1"),
        (lambda b: b.subscribe("log", retries="two")(handle), "retries='two'"),
        (lambda b: b.subscribe("log", quarantine_after=0)(handle), "quarantine_after=0"),
        (lambda b: b.subscribe("log", overflow="buffer")(handle), "'buffer' is no policy: known"),
        (lambda b: b.subscribe("log", delivery="tread")(handle), "did you mean 'thread'"),
        (lambda b: b.subscribe("log", delivery=1)(handle), "delivery=1 is no delivery"),
        (lambda b: b.subscribe("log", delivery="thread")(handle_async), "without async"),
        (lambda b: b.subscribe("log", delivery="gate")(handle_async), "without async"),
        (lambda b: b.subscribe("log", delivery="loop")(handle), "write async def"),
        (
            lambda b: b.subscribe("log", delivery="gate", timeout=1)(handle),
            "timeout= has no effect",
        ),
        (lambda b: b.subscribe(Stalled, delivery="gate")(handle), "never be called"),
        (lambda b: b.subscribe(Ping, delivery="gate")(handle), "never be called"),
        (lambda b: b.subscribe("log")(no_argument), r"no_argument\(\).* must take exactly one"),
        (lambda b: b.subscribe("log")(two_arguments), "must take exactly one argument, the event"),
        (lambda b: b.subscribe("log")(Quiet.on_log), "subscribed on its instance"),
        (lambda b: b.subscribe("log")(Ping), "is no handler"),
        (lambda b: b.subscribe("log")("print"), "is no handler"),
        (lambda b: b.subscribe("log")(generator), "does not yield"),
        (lambda b: b.subscribe("log")(async_generator), "does not yield"),
        (lambda b: b.subscribe("log", when=3)(handle), "when=3 is no function"),
        (lambda b: b.subscribe(Quiet), r"is a class: subscribe an instance, Quiet\(\)"),
        (lambda b: b.subscribe(Mixed()), "some are not"),
        (lambda b: b.subscribe(Idle()), "has no method on_<event>"),
        (lambda b: b.subscribe(Quiet(), every=5), r"mark the method instead, @on\(every="),
        (lambda b: b.subscribe(Quiet(), delivery="loop"), "write async def"),
        (lambda b: b.unsubscribe(handle), "is not subscribed"),
        (lambda b: b.publish("step_end"), "is no event"),
        (lambda b: b.vote("stopp"), "did you mean 'stop'"),
        (lambda b: b.vote("save", expires_after_steps=0), "expires_after_steps is 0"),
        (lambda b: b.events("step_nd"), "did you mean 'step_end'"),
        (lambda b: b.events("log", every=0), "every=0"),
        (lambda b: b.events(until="train_ned"), "did you mean 'train_end'"),
        (lambda b: EventBus(backend="curio"), "give 'asyncio' or 'trio'"),
        (lambda b: EventBus(drain_timeout=0), "drain_timeout=0"),
        (lambda b: EventBus(setup_timeout=-1), "setup_timeout=-1"),
        (lambda b: AnyBus(stall_after="1"), "stall_after='1'"),
        (lambda b: AnyBus(policies={"sav": VotePolicy()}), "did you mean 'save'"),
        (lambda b: AnyBus(policies={"save": "all"}), "give a VotePolicy"),
    ],
)
def test_a_wrong_call_is_one_clear_error_and_subscribes_nothing(
    wrong: Callable[[Any], object], says: str
) -> None:
    bus = EventBus()
    with pytest.raises(ArgumentError, match=says):
        wrong(bus)
    assert not bus.ledger.rows


def test_a_method_that_no_event_calls_is_an_error_at_the_class() -> None:
    with pytest.raises(ArgumentError, match=r"on_step_ends is called by no event.*on_step_end"):

        class Probe(Subscriber):
            def on_step_ends(self, event: StepEnd) -> None: ...


@pytest.mark.parametrize(
    "use",
    [
        lambda b: b.subscribe("log"),
        lambda b: b.subscribe(Recorder()),
        lambda b: b.publish(Ping()),
        lambda b: b.vote("save"),
        lambda b: b.events("log"),
        lambda b: b.start(),
        lambda b: b.open_run(TrainerState()),
    ],
)
def test_use_after_close_says_so(use: Callable[[Any], object]) -> None:
    with EventBus() as bus:
        pass
    with pytest.raises(BusClosedError, match="This EventBus is closed"):
        use(bus)


def test_a_decorator_kept_over_the_close_says_so_too() -> None:
    bus = EventBus()
    decorator = bus.subscribe("log")
    bus.close()
    with pytest.raises(BusClosedError):
        decorator(handle)


def test_a_run_needs_a_bus_that_runs() -> None:
    with pytest.raises(BusClosedError, match="start"):
        EventBus().open_run(TrainerState())


def test_two_open_runs_of_one_name_are_an_error(bus: EventBus) -> None:
    bus.open_run(TrainerState(), run_id="same")
    with pytest.raises(ArgumentError, match="'same' is open"):
        bus.open_run(TrainerState(), run_id="same")
