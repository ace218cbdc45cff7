"""Values that are still on the device when their event is emitted."""

import math
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from stepbus.bus import Deferred, EventBus, RunLink, TrainerCallback
from stepbus.bus.deferred import fill
from stepbus.bus.testing import FakeClock, Recorder
from stepbus.schemas import Log, StepEnd, TrainerControl, TrainerState

MakeBus = Callable[..., EventBus]


class Slow(Deferred):
    """A number on a device whose copy the test completes."""

    def __init__(self, value: float, error: Exception | None = None) -> None:
        self._value = value
        self._error = error
        self._here = threading.Event()
        self.asked = threading.Event()

    def arrive(self) -> None:
        self._here.set()

    def ready(self) -> bool:
        self.asked.set()
        if self._error is not None:
            raise self._error
        return self._here.is_set()

    def result(self) -> float:
        if self._error is not None:
            raise self._error
        self.asked.set()
        assert self._here.wait(30)
        return self._value


@pytest.fixture
def slow() -> Iterator[Callable[[float], Slow]]:
    made: list[Slow] = []

    def make(value: float) -> Slow:
        made.append(Slow(value))
        return made[-1]

    yield make
    for handle in made:
        handle.arrive()


def emit_log(link: RunLink, **logs: Slow | float) -> None:
    handles = tuple(value for value in logs.values() if isinstance(value, Slow))
    link.emit("log", {"logs": logs}, handles)


def test_an_event_waits_for_its_values_and_holds_back_those_behind_it(
    bus: EventBus, slow: Callable[[float], Slow]
) -> None:
    recorder = bus.subscribe(Recorder())
    link = bus.open_run(TrainerState())
    value = slow(0.25)
    link.emit("step_begin")
    emit_log(link, loss=value, acc=0.5)
    link.emit("step_end")
    recorder.wait_for("step_begin")
    # The pump has looked at it, found nothing, and will not hand on what comes later.
    assert value.asked.wait(10)
    assert not bus.flush(0.05)
    assert recorder.kinds == ["step_begin"]
    value.arrive()
    assert bus.flush(10)
    assert recorder.kinds == ["step_begin", "log", "step_end"]
    log = recorder.of(Log)[0]
    assert dict(log.logs) == {"loss": 0.25, "acc": 0.5}
    assert log.unresolved == ()
    assert [event.seq for event in recorder.events] == [0, 1, 2]


def test_values_arrive_as_plain_floats_nan_and_inf_too(
    bus: EventBus, slow: Callable[[float], Slow]
) -> None:
    recorder = bus.subscribe(Recorder())
    link = bus.open_run(TrainerState())
    for number in (1.5, math.nan, math.inf, -math.inf):
        value = slow(number)
        value.arrive()
        link.emit("step_end", {"loss": value}, (value,))
    assert bus.flush(10)
    losses = [event.loss for event in recorder.of(StepEnd)]
    assert all(type(loss) is float for loss in losses)
    assert losses[0] == 1.5
    assert math.isnan(losses[1] or 0.0)
    assert losses[2:] == [math.inf, -math.inf]


def test_after_thirty_seconds_it_goes_out_without_them(
    make_bus: MakeBus, slow: Callable[[float], Slow], caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    bus = make_bus(clock=clock)
    recorder = bus.subscribe(Recorder())
    link = bus.open_run(TrainerState())
    lost, here = slow(1.0), slow(2.0)
    here.arrive()
    emit_log(link, loss=lost, grad_norm=here)
    link.emit("step_end", {"loss": lost}, (lost,))
    clock.advance(29.9)
    assert not bus.flush(0.05)
    clock.advance(0.2)
    log = recorder.wait_for(Log)[0]
    assert dict(log.logs) == {"loss": None, "grad_norm": 2.0}
    assert log.unresolved == ("loss",)
    step = recorder.wait_for(StepEnd)[0]
    assert (step.loss, step.unresolved) == (None, ("loss",))
    assert "without its values from the device" in caplog.text


def test_a_device_that_failed_costs_the_value_and_nothing_else(
    bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = bus.subscribe(Recorder())
    link = bus.open_run(TrainerState())
    broken = Slow(1.0, RuntimeError("CUDA error"))
    emit_log(link, loss=broken, acc=0.5)
    link.emit("step_end")
    assert bus.flush(10)
    log = recorder.of(Log)[0]
    assert dict(log.logs) == {"loss": None, "acc": 0.5}
    assert log.unresolved == ("loss",)
    assert recorder.kinds == ["log", "step_end"]
    assert "CUDA error" in caplog.text


def test_closing_waits_for_values_for_half_of_its_time_and_then_sends_without(
    make_bus: MakeBus, slow: Callable[[float], Slow]
) -> None:
    bus = make_bus()
    recorder = bus.subscribe(Recorder())
    link = bus.open_run(TrainerState())
    link.emit("step_end", {"loss": slow(1.0)}, (slow(1.0),))
    emit_log(link, loss=slow(1.0))
    link.emit("train_end")
    started = time.monotonic()
    bus.close(1.0)
    assert 0.4 < time.monotonic() - started < 5.0
    assert recorder.kinds == ["step_end", "log", "train_end"]
    assert recorder.of(Log)[0].unresolved == ("loss",)


def test_closing_delivers_values_that_arrive_meanwhile(
    bus: EventBus, slow: Callable[[float], Slow]
) -> None:
    recorder = bus.subscribe(Recorder())
    link = bus.open_run(TrainerState())
    value = slow(3.0)
    emit_log(link, loss=value)

    def arrive_once_asked() -> None:
        assert value.asked.wait(10)
        value.arrive()

    device = threading.Thread(target=arrive_once_asked)
    device.start()
    bus.close()
    device.join(10)
    assert recorder.of(Log)[0].logs["loss"] == 3.0


def test_a_gate_gets_none_unless_it_waits_and_waits_are_counted(
    bus: EventBus, slow: Callable[[float], Slow]
) -> None:
    quick: list[StepEnd] = []
    patient: list[StepEnd] = []
    value = slow(0.5)
    bus.subscribe("step_end", delivery="gate", name="quick")(quick.append)

    @bus.subscribe("step_end", delivery="gate", name="nudge")
    def nudge(event: StepEnd) -> None:
        threading.Timer(0.02, value.arrive).start()

    bus.subscribe("step_end", delivery="gate", wait_for_values=True, name="patient")(patient.append)
    link = bus.open_run(TrainerState())
    link.emit("step_end", {"loss": value}, (value,))
    assert (quick[0].loss, quick[0].unresolved) == (None, ("loss",))
    assert (patient[0].loss, patient[0].unresolved) == (0.5, ())
    rows = {row.subscriber: row for row in bus.ledger}
    assert (rows["quick"].waits, rows["quick"].wait_s) == (0, 0.0)
    assert rows["patient"].waits == 1
    assert rows["patient"].wait_s > 0.0


def test_callbacks_in_the_gate_get_floats_and_the_wait_is_charged_to_the_first(
    bus: EventBus, slow: Callable[[float], Slow]
) -> None:
    seen: list[object] = []

    class First(TrainerCallback):
        def on_log(
            self, args: object, state: TrainerState, control: TrainerControl, **kwargs: object
        ) -> None:
            seen.append(kwargs["logs"])

    class Second(First):
        pass

    class Deaf(TrainerCallback):
        pass

    link = bus.open_run(TrainerState())
    for callback in (Deaf(), First(), Second()):
        link.gate.add(callback)
    value, here = slow(0.5), slow(0.25)
    here.arrive()
    threading.Timer(0.02, value.arrive).start()
    emit_log(link, loss=value, acc=here)
    assert seen == [{"loss": 0.5, "acc": 0.25}] * 2
    rows = {row.subscriber: row.waits for row in bus.ledger}
    assert rows == {"Deaf": 0, "First": 1, "Second": 0}


def test_a_gate_that_waits_for_a_failed_device_gets_none() -> None:
    values, lost = fill({"a": {"b": Slow(1.0, RuntimeError("gone"))}, "c": 2}, wait=True)
    assert values == {"a": {"b": None}, "c": 2}
    assert lost == ("b",)
