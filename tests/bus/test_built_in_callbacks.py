"""Built-ins that are callbacks of Hugging Face's shape too, and what subclasses make of them."""

from __future__ import annotations

import copy
import enum
import pickle
import threading
from typing import Any

import numpy as np
import pytest

from stepbus.bus import Deferred, EventBus, Lease, RunLink, Subscriber, TrainerCallback, on
from stepbus.bus.built_in import BuiltInCallback
from stepbus.bus.listening import handlers_of
from stepbus.bus.shapes import both_shapes
from stepbus.bus.subscriber import overridden_hooks
from stepbus.bus.testing import Recorder
from stepbus.schemas import (
    ArgumentError,
    Evaluate,
    Event,
    Log,
    Predict,
    Save,
    StepEnd,
    TrainBegin,
    TrainEnd,
    TrainerState,
    Vote,
)


class Slow(Deferred):
    """A number on a device whose copy the test completes."""

    def __init__(self, value: float) -> None:
        self._value = value
        self._here = threading.Event()
        self.asked = threading.Event()

    def arrive(self) -> None:
        self._here.set()

    def ready(self) -> bool:
        self.asked.set()
        return self._here.is_set()

    def result(self) -> float:
        assert self._here.wait(30)
        return self._value


class Keeps(BuiltInCallback):
    """A built-in that keeps what it gets, and in which thread."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self.threads: set[int] = set()
        self.opened = 0

    def open(self) -> None:
        self.opened += 1

    def keep(self, event: Event) -> None:
        self.got.append(event)
        self.threads.add(threading.get_ident())

    @both_shapes
    def on_step_end(self, event: StepEnd) -> None:
        self.keep(event)

    @both_shapes
    def on_log(self, event: Log) -> None:
        self.keep(event)

    @both_shapes
    def on_evaluate(self, event: Evaluate) -> None:
        self.keep(event)

    on_predict = on_evaluate

    @both_shapes
    def on_save(self, event: Save) -> None:
        self.keep(event)

    @property
    def logs(self) -> list[dict[str, Any]]:
        return [dict(event.logs) for event in self.got if isinstance(event, Log)]


class Doubles(Keeps):
    """Edits the logs and hands them on."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.called_in = threading.get_ident()
        logs = {name: 2 * value for name, value in logs.items()}
        super().on_log(args, state, control, logs=logs, **kwargs)


def attach(bus: EventBus, *callbacks: Any, **run: Any) -> RunLink:
    """What an engine does with its callbacks."""
    for callback in callbacks:
        if isinstance(callback, Subscriber):
            bus.subscribe(callback)
    link = bus.open_run(TrainerState(), **run)
    for callback in callbacks:
        if not isinstance(callback, Subscriber) or overridden_hooks(callback):
            link.gate.add(callback)
    return link


def flushed(bus: EventBus) -> None:
    assert bus.flush(10)
    assert {row.subscriber: row.failures for row in bus.ledger if row.failures} == {}


def test_a_built_in_is_both_and_listens_concurrently_alone(bus: EventBus) -> None:
    callback = Keeps()
    assert isinstance(callback, Subscriber)
    assert isinstance(callback, TrainerCallback)
    assert overridden_hooks(callback) == frozenset()
    assert set(handlers_of(callback)) == {StepEnd, Log, Evaluate, Predict, Save}
    link = attach(bus, callback)
    assert not link.emitters["log"].gated
    assert not link.emitters["epoch_end"].active
    link.emit("log", {"logs": {"loss": 1.0}})
    link.emit("predict", {"metrics": {"test_loss": 1.0}})
    flushed(bus)
    assert [event.name for event in callback.got] == ["log", "predict"]
    assert threading.get_ident() not in callback.threads


def test_methods_of_a_subclass_that_take_an_event_stay_concurrent(bus: EventBus) -> None:
    class Named(Keeps):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def on_log(self, event: Log) -> None:  # type: ignore[override]
            self.keep(event)
            super().on_log(event)

        @on(every=2)
        def on_step_begin(self, event: Event) -> None:  # type: ignore[override]
            super().on_step_begin(event)  # type: ignore[call-arg]
            self.keep(event)

    callback = Named("mine")
    assert overridden_hooks(callback) == frozenset()
    link = attach(bus, callback)
    for link.state.global_step in range(4):
        link.emit("step_begin")
    link.emit("log", {"logs": {}})
    flushed(bus)
    assert [(event.name, event.step) for event in callback.got] == [
        ("step_begin", 1),
        ("step_begin", 3),
        ("log", 3),
        ("log", 3),
    ]
    assert threading.get_ident() not in callback.threads


def test_an_override_in_their_shape_is_called_in_the_gate_and_hands_on(bus: EventBus) -> None:
    callback, others = Doubles(), Recorder()
    bus.subscribe(others)
    assert overridden_hooks(callback) == {"log"}
    assert Log not in handlers_of(callback)
    link = attach(bus, callback, run_id="r1", attempt=2)
    link.state.global_step, link.state.epoch = 7, 0.5
    link.emit("log", {"logs": {"loss": 1.5}})
    assert callback.called_in == threading.get_ident()
    flushed(bus)
    (event,), (original,) = callback.got, others.of(Log)
    assert threading.get_ident() not in callback.threads
    assert event.logs == {"loss": 3.0}
    assert original.logs == {"loss": 1.5}
    for field in ("run_id", "attempt", "rank", "step", "epoch", "seq"):
        assert getattr(event, field) == getattr(original, field), field
    assert event.time == pytest.approx(original.time, abs=0.5)
    assert event.state.global_step == 7


def test_what_is_only_handed_on_takes_no_number(bus: EventBus) -> None:
    callback, saves = Doubles(), Recorder()
    bus.subscribe("save")(saves)
    link = attach(bus, callback)
    assert not link.emitters["log"].wanted
    link.emit("log", {"logs": {"loss": 1.0}})
    link.emit("save", note=Lease())
    link.emit("log", {"logs": {"loss": 2.0}})
    flushed(bus)
    assert [event.seq for event in callback.got] == [-1, 0, 0]
    assert saves.events[0].seq == 0


def test_without_super_nothing_arrives_and_with_two_calls_two(bus: EventBus) -> None:
    class Silent(Keeps):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            pass

    class Twice(Keeps):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            super().on_log(args, state, control, {"first": 1}, **kwargs)
            super().on_log(args, state, control, logs=logs, **kwargs)

    silent, twice = Silent(), Twice()
    link = attach(bus, silent, twice)
    link.emit("log", {"logs": {"loss": 1.0}})
    link.emit("step_end")
    flushed(bus)
    assert [event.name for event in silent.got] == ["step_end"]
    assert twice.logs == [{"first": 1}, {"loss": 1.0}]


def test_values_that_are_not_given_are_those_of_the_original(bus: EventBus) -> None:
    class Passes(Keeps):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_log(args, state, control)

        def on_evaluate(self, *args: Any, **kwargs: Any) -> None:
            super().on_evaluate(*args, **kwargs)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
            return super().on_save(args, state, control, **kwargs)

    callback = Passes()
    assert overridden_hooks(callback) == {"log", "evaluate", "save"}
    link = attach(bus, callback)
    link.emit("log", {"logs": {"loss": 1.0}})
    link.emit("evaluate", {"metrics": {"eval_loss": 2.0}})
    lease = Lease()
    lease.acquire("in transit")
    link.emit("save", {"path": "out/checkpoint-3", "best": True}, note=lease)
    flushed(bus)
    log, evaluate, save = callback.got
    assert (log.logs, evaluate.metrics) == ({"loss": 1.0}, {"eval_loss": 2.0})
    assert (save.path, save.best, save.lease) == ("out/checkpoint-3", True, lease)
    assert lease.holders == ("in transit",), "held while it was handled, and no longer"


def test_the_order_of_a_mailbox_is_kept(bus: EventBus) -> None:
    callback = Doubles()
    link = attach(bus, callback)
    for step in range(1, 301):
        link.state.global_step = step
        link.emit("step_end")
        link.emit("log", {"logs": {"loss": step}})
    flushed(bus)
    expected = [(step, name) for step in range(1, 301) for name in ("step_end", "log")]
    assert [(event.step, event.name) for event in callback.got] == expected
    assert callback.logs[-1] == {"loss": 600}


def test_edits_while_the_concurrent_side_works_do_not_reach_it(bus: EventBus) -> None:
    class Edits(Keeps):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            super().on_log(args, state, control, logs=logs, **kwargs)
            for number in range(50):
                logs[f"late {number}"] = 1.0
            logs["loss"] = -1.0

    class Reads(Edits):
        def keep(self, event: Event) -> None:
            assert isinstance(event, Log)
            for _ in range(20):
                assert dict(event.logs) == {"loss": event.step}
            super().keep(event)

    callback = Reads()
    link = attach(bus, callback)
    for step in range(1, 501):
        link.state.global_step = step
        link.emit("log", {"logs": {"loss": step}})
    flushed(bus)
    assert [event.step for event in callback.got] == list(range(1, 501))


def test_the_callback_keeps_its_place_in_the_chain(bus: EventBus) -> None:
    class Adds(TrainerCallback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            kwargs["logs"][self.name] = 1
            control.should_save = self.name == "first"

    class Saves(Doubles):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            assert control.should_save
            super().on_log(args, state, control, logs=logs, **kwargs)
            control.should_training_stop = True

    callback = Saves()
    link = attach(bus, Adds("first"), callback, Adds("last"))
    link.emit("log", {"logs": {"loss": 1}})
    flushed(bus)
    assert callback.logs == [{"loss": 2, "first": 2}]
    votes = [(vote.action, vote.voter) for vote, _ in link.gate.votes(0)]
    assert votes == [("stop", "Saves")]


def test_values_on_the_device_are_floats_in_the_gate_and_behind_it(
    bus: EventBus,
) -> None:
    class Hands(Doubles):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_step_end(args, state, control, **kwargs)

    callback = Hands()
    link = attach(bus, callback)
    loss, logged = Slow(0.25), Slow(1.5)
    link.emit("step_end", {"loss": loss}, (loss,))
    logged.arrive()
    link.emit("log", {"logs": {"loss": logged}}, (logged,))
    assert loss.asked.wait(10)
    assert callback.got == [], "an event holds back those behind it until its values are there"
    loss.arrive()
    flushed(bus)
    step_end, log = callback.got
    assert (step_end.loss, step_end.unresolved, log.logs) == (0.25, (), {"loss": 3.0})


def test_filters_hold_for_what_is_handed_on(bus: EventBus) -> None:
    class Sparse(Keeps):
        @both_shapes
        @on(every=10, when=lambda event: event.step != 20)
        def on_step_end(self, event: StepEnd) -> None:
            self.keep(event)

        @on(once=True)
        @both_shapes
        def on_log(self, event: Log) -> None:
            self.keep(event)

    class Hands(Sparse):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_step_end(args, state, control, **kwargs)

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_log(args, state, control, **kwargs)

    callback = Hands()
    link = attach(bus, callback)
    for link.state.global_step in range(1, 31):
        link.emit("step_end")
        link.emit("log", {"logs": {}})
    flushed(bus)
    assert [(e.name, e.step) for e in callback.got] == [
        ("log", 1),
        ("step_end", 10),
        ("step_end", 30),
    ]


def test_an_on_event_method_gets_what_is_handed_on_and_nothing_of_it_by_itself(
    bus: EventBus,
) -> None:
    class All(Keeps):
        def on_event(self, event: Event) -> None:
            self.keep(event)

    class Mine(All):
        def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.epoch > 1:
                super().on_epoch_end(args, state, control, **kwargs)

    callback = Mine()
    link = attach(bus, callback)
    link.emit("epoch_begin")
    for link.state.epoch in (1.0, 2.0):
        link.emit("epoch_end")
    flushed(bus)
    assert [(event.name, event.epoch) for event in callback.got] == [
        ("epoch_begin", 0.0),
        ("epoch_end", 2.0),
    ]


def test_a_subclass_of_a_subclass_goes_through_both(bus: EventBus) -> None:
    class Renames(Doubles):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            logs = {f"mine_{name}": value for name, value in logs.items()}
            super().on_log(args, state, control, logs=logs, **kwargs)

    class Takes(Renames):
        def on_log(self, event: Log) -> None:  # type: ignore[override]
            self.keep(event)

    renames, takes = Renames(), Takes()
    assert overridden_hooks(takes) == frozenset()
    link = attach(bus, renames, takes)
    link.emit("log", {"logs": {"loss": 1}})
    flushed(bus)
    assert renames.logs == [{"mine_loss": 2}]
    assert takes.logs == [{"loss": 1}]


def test_a_hook_that_the_built_in_has_no_method_for_is_the_gates_alone(bus: EventBus) -> None:
    class Counts(Keeps):
        num = 0

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.num += 1
            super().on_epoch_begin(args, state, control, **kwargs)

    callback = Counts()
    link = attach(bus, callback)
    link.emit("epoch_begin")
    link.emit("log", {"logs": {}})
    flushed(bus)
    assert (callback.num, [event.name for event in callback.got]) == (1, ["log"])


def test_one_whose_methods_are_all_theirs_can_be_subscribed(bus: EventBus) -> None:
    class Theirs(BuiltInCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            super().on_log(args, state, control, **kwargs)

    link = attach(bus, Theirs())
    link.emit("log", {"logs": {}})
    flushed(bus)
    assert {(row.delivery, row.handled) for row in bus.ledger} == {("gate", 1), ("thread", 0)}


def test_a_call_for_another_kind_makes_an_event_of_the_moment(bus: EventBus) -> None:
    class Logs(Keeps):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.on_log(args, state, control, logs={"step": state.global_step})
            super().on_step_end(args, state, control, **kwargs)

    callback = Logs()
    link = attach(bus, callback, run_id="r1")
    link.state.global_step = 3
    link.emit("step_end", {"loss": 1.0})
    flushed(bus)
    log, step_end = callback.got
    assert (log.name, log.run_id, log.step, log.logs) == ("log", "r1", 3, {"step": 3})
    assert (step_end.step, step_end.loss) == (3, 1.0)
    assert threading.get_ident() not in callback.threads


def test_calls_from_elsewhere_go_through_the_mailbox_of_one_that_is_on_a_bus(
    bus: EventBus,
) -> None:
    callback = Keeps()
    link = attach(bus, callback, run_id="r1")

    class Forwards(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            callback.on_log(args, state, control, logs={"forwarded": 1})

    link.gate.add(Forwards())
    link.emit("log", {"logs": {"loss": 1}})
    callback.on_log(None, link.state, link.control, logs={"direct": 1})
    other = threading.Thread(
        target=callback.on_save, args=(None, link.state, link.control), kwargs={"model": None}
    )
    other.start()
    other.join()
    flushed(bus)
    assert callback.logs == [{"loss": 1}, {"forwarded": 1}, {"direct": 1}]
    assert {event.run_id for event in callback.got} == {"r1"}
    assert callback.got[-1].path == "checkpoint-0"
    assert threading.get_ident() not in callback.threads


def test_with_gate_delivery_all_of_it_is_on_the_training_thread(bus: EventBus) -> None:
    callback = Doubles()
    bus.subscribe(callback, delivery="gate")
    link = bus.open_run(TrainerState())
    link.gate.add(callback)
    link.emit("log", {"logs": {"loss": 1}})
    link.emit("step_end")
    assert callback.threads == {threading.get_ident()}
    assert [event.name for event in callback.got] == ["log", "step_end"]
    assert (callback.logs, callback.opened) == ([{"loss": 2}], 1)


def test_off_every_bus_it_works_in_the_calling_thread() -> None:
    class Begins(Doubles):
        @on(every=2)
        def on_step_end(self, event: StepEnd) -> None:  # type: ignore[override]
            self.keep(event)

        def on_train_begin(self, event: TrainBegin) -> None:  # type: ignore[override]
            self.keep(event)

        def on_train_end(self, event: TrainEnd) -> None:  # type: ignore[override]
            self.keep(event)

    class Arguments:
        output_dir = "out"
        run_name = "mine"

        def to_dict(self) -> dict[str, Any]:
            return {"seed": 1}

    class State:
        global_step = 4
        epoch = 0.5
        max_steps = 10
        is_world_process_zero = False

    callback: Any = Begins()
    args, state = Arguments(), State()
    callback.on_init_end(args, state, None)
    assert callback.opened == 0
    callback.on_train_begin(args, state, None, model=callback)
    callback.on_step_end(args, state, None)
    callback.on_log(args, state, None, logs={"loss": 1.5})
    callback.on_evaluate(args, state, None, metrics={"eval_loss": 2})
    callback.on_predict(args, state, None, {"test_loss": 3})
    callback.on_save(args, state, None)
    callback.on_train_end(args=args, state=state, control=None)
    begin, step, log, evaluate, predict, save, end = callback.got
    assert (begin.output_dir, begin.run_name, begin.max_steps) == ("out", "mine", 10)
    assert (begin.arguments, begin.model) == ({"seed": 1}, "Begins")
    assert (log.logs, evaluate.metrics, predict.metrics) == (
        {"loss": 3.0},
        {"eval_loss": 2},
        {"test_loss": 3},
    )
    assert (predict.name, save.path, end.name) == ("predict", "out/checkpoint-4", "train_end")
    assert {(event.step, event.epoch, event.rank) for event in callback.got} == {(4, 0.5, 1)}
    assert step.time > 1e9
    assert callback.threads == {threading.get_ident()}
    assert callback.opened == 1
    with save.lease.hold("reader"):
        pass


def test_it_is_set_up_anew_when_it_comes_onto_a_bus(bus: EventBus) -> None:
    closed = []

    class Closes(Keeps):
        def close(self) -> None:
            closed.append(threading.get_ident())

    callback = Closes()
    state = TrainerState(global_step=2)
    callback.on_log(None, state, None, logs={"loss": 1})
    assert callback.got[0].state.global_step == 2
    attach(bus, callback)
    assert bus.flush(10)
    assert (callback.opened, closed) == (2, [threading.get_ident()])
    bus.unsubscribe(callback)
    callback.on_log(None, state, None, logs={"loss": 2})
    assert callback.opened == 3
    assert callback.logs == [{"loss": 1}, {"loss": 2}]


def test_what_a_direct_call_raises_goes_to_the_caller() -> None:
    class Breaks(Keeps):
        def on_log(self, event: Log) -> Vote:  # type: ignore[override]
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        Breaks().on_log(None, TrainerState(), None, logs={})  # type: ignore[call-arg, arg-type]


def test_async_methods_off_every_bus_do_nothing_and_say_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Sends(BuiltInCallback):
        async def on_log(self, event: Log) -> None:  # type: ignore[override]
            raise AssertionError

    callback: Any = Sends()
    for _ in range(3):
        callback.on_log(None, TrainerState(), None, logs={})
    (record,) = caplog.records
    assert "Sends is on no bus" in record.message


def test_async_methods_get_what_is_handed_on(bus: EventBus) -> None:
    class Sends(Keeps):
        async def on_step_end(self, event: StepEnd) -> None:  # type: ignore[override]
            self.keep(event)

        on_log = on_evaluate = on_predict = on_save = on_step_end

    class Mine(Sends):
        def on_log(  # type: ignore[override]
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            super().on_log(args, state, control, logs={**logs, "mine": 1}, **kwargs)  # type: ignore[call-arg, unused-coroutine]

    callback = Mine()
    link = attach(bus, callback)
    link.emit("log", {"logs": {"loss": 1}})
    link.emit("evaluate", {"metrics": {}})
    flushed(bus)
    assert callback.logs == [{"loss": 1, "mine": 1}]
    assert [event.name for event in callback.got] == ["log", "evaluate"]


def test_a_call_that_says_too_little_for_its_kind_is_passed_over_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Hears(BuiltInCallback):
        def on_stalled(self, event: Event) -> None:
            raise AssertionError

    callback: Any = Hears()
    for _ in range(3):
        callback.on_stalled(None, TrainerState(), None)
    (record,) = caplog.records
    assert "Hears.on_stalled(args, state, control) does nothing" in record.message


def test_numbers_of_other_libraries_become_pythons_and_the_rest_is_left_out(
    bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    class Colour(enum.StrEnum):
        RED = "red"

    class Passes(Keeps):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            logs = {
                "double": np.float64(0.5),
                "single": np.float32(0.25),
                "count": np.int64(3),
                "flag": np.bool_(True),
                "array": np.array([1.5]),
                "colour": Colour.RED,
                "nan": float("nan"),
                "none": None,
                "list": [1, 2],
                "many": np.zeros(3),
                "complex": 1j,
            }
            super().on_log(args, state, control, logs=logs, **kwargs)

    callback = Passes()
    link = attach(bus, callback)
    for _ in range(2):
        link.emit("log", {"logs": {}})
    flushed(bus)
    logs = callback.logs[1]
    assert repr(logs.pop("nan")) == "nan"
    assert logs == {
        "double": 0.5,
        "single": 0.25,
        "count": 3,
        "flag": True,
        "array": 1.5,
        "colour": "red",
        "none": None,
    }
    assert {type(value) for value in logs.values()} == {float, int, bool, str, type(None)}
    said = [record.message for record in caplog.records]
    assert [message.split("'")[1] for message in said] == ["list", "many", "complex"]


def test_a_failing_override_is_counted_and_the_run_goes_on(bus: EventBus) -> None:
    class Breaks(Doubles):
        def on_log(
            self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any
        ) -> None:
            super().on_log(args, state, control, logs=logs, **kwargs)
            raise ValueError("broken")

    callback = Breaks()
    link = attach(bus, callback)
    link.emit("log", {"logs": {"loss": 1}})
    assert bus.flush(10)
    assert callback.logs == [{"loss": 2}]
    assert {row.delivery: row.failures for row in bus.ledger} == {"thread": 0, "gate": 1}


def test_two_runs_on_one_bus_are_kept_apart(bus: EventBus) -> None:
    callback = Doubles()
    links = [attach(bus, callback, run_id="r1"), bus.open_run(TrainerState(), run_id="r2")]
    links[1].gate.add(callback)

    def log(link: RunLink) -> None:
        for step in range(1, 101):
            link.state.global_step = step
            link.emit("log", {"logs": {"loss": step}})

    threads = [threading.Thread(target=log, args=(link,)) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flushed(bus)
    for run in ("r1", "r2"):
        mine = [event for event in callback.got if event.run_id == run]
        assert [event.step for event in mine] == list(range(1, 101))
        assert all(event.logs["loss"] == 2 * event.step for event in mine)


def test_names_that_are_no_events_are_refused_for_methods_of_one_event_alone() -> None:
    class Helper(Keeps):
        def on_the_way(self) -> None: ...

        def on_somewhere(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None: ...

    assert set(handlers_of(Helper())) == set(handlers_of(Keeps()))
    with pytest.raises(ArgumentError, match="did you mean 'on_step_end'"):

        class Wrong(Keeps):
            def on_step_ended(self, event: Event) -> None: ...


def test_copies_leave_the_buses_behind(bus: EventBus) -> None:
    callback = Pickled()
    attach(bus, callback)
    for twin in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        twin.on_log(None, TrainerState(), None, logs={"loss": 1})
        assert (twin.logs, callback.got) == ([{"loss": 1}], [])


class Pickled(Keeps):
    """One that pickle finds by its name."""
