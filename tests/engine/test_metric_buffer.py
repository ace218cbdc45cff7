"""Scalars of a slow accelerator: in order, none lost, and nobody waits for them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stepbus.bus import EventBus
from stepbus.bus.testing import FakeClock, Recorder
from stepbus.engine.metric_buffer import DeferredScalar, MetricBuffer
from stepbus.engine.scalars.accelerators import KINDS, accelerator_of
from stepbus.engine.scalars.ring import Ring
from stepbus.engine.scalars.rows import Row
from stepbus.schemas import StepEnd, TrainerState
from stepbus.schemas.errors import ArgumentError, StepbusError
from tests.engine.slow_device import SlowDevice


def only(buffer: MetricBuffer, value: Any) -> DeferredScalar:
    (number,), handles = buffer.push([value])
    assert isinstance(number, DeferredScalar)
    assert handles == (number,)
    return number


def test_scalars_of_the_host_are_numbers_at_once() -> None:
    values: list[Any] = [1, 0.5, torch.tensor(2.0, requires_grad=True), None, torch.tensor([3])]
    numbers, handles = MetricBuffer().push(values)
    assert numbers == [1.0, 0.5, 2.0, None, 3.0]
    assert all(type(number) is float for number in numbers if number is not None)
    assert handles == ()


def test_scalars_of_a_device_arrive_when_it_has_got_there_and_nobody_waits(
    device: SlowDevice,
) -> None:
    device.hold()
    buffer = MetricBuffer()
    numbers, handles = buffer.push([0.5, device.tensor(1.25), None, device.tensor(-2.0)])
    assert (numbers[0], numbers[2]) == (0.5, None)
    assert handles == (numbers[1], numbers[3])
    assert not any(handle.ready() for handle in handles)
    device.release()
    device.finish()
    assert all(handle.ready() for handle in handles)
    assert [handle.result() for handle in handles] == [1.25, -2.0]
    assert device.waits == []


def test_a_value_is_what_it_was_though_the_tensor_changes_before_the_copy_is_done(
    device: SlowDevice,
) -> None:
    device.hold()
    buffer, loss, norm = MetricBuffer(), device.tensor(1.0), device.tensor(2.0)
    (first, _), _ = buffer.push([loss, norm])
    alone = only(buffer, loss)
    loss.add_(10.0)
    loss.zero_()
    device.release()
    assert isinstance(first, DeferredScalar)
    assert [handle.result() for handle in (first, alone)] == [1.0, 1.0]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
def test_each_type_comes_as_the_number_that_it_holds(
    device: SlowDevice, dtype: torch.dtype
) -> None:
    buffer = MetricBuffer()
    assert only(buffer, device.tensor(1, dtype=dtype)).result() == 1.0
    (one, two), _ = buffer.push([device.tensor(1, dtype=dtype), device.tensor(0, dtype=dtype)])
    assert isinstance(one, DeferredScalar)
    assert isinstance(two, DeferredScalar)
    assert (one.result(), two.result()) == (1.0, 0.0)


def test_types_that_differ_are_widened_and_counts_stay_exact(device: SlowDevice) -> None:
    many = 2**53 - 1
    values = [device.tensor(many), device.tensor(0.1), device.tensor(0.5, dtype=torch.bfloat16)]
    _, handles = MetricBuffer().push(values)
    numbers = [handle.result() for handle in handles]
    assert numbers == [many, float(torch.tensor(0.1)), 0.5]


def test_nan_and_infinities_come_as_they_are(device: SlowDevice) -> None:
    buffer = MetricBuffer()
    handles = [only(buffer, device.tensor(x)) for x in (math.nan, math.inf, -math.inf)]
    numbers = [handle.result() for handle in handles]
    assert math.isnan(numbers[0])
    assert numbers[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize("value", [[1.0, 2.0], 1j])
def test_what_is_no_scalar_is_refused_with_what_to_do(device: SlowDevice, value: Any) -> None:
    with pytest.raises(ArgumentError, match=r"no scalar: reduce it"):
        MetricBuffer().push([device.tensor(value)])


def test_a_tensor_without_values_is_refused() -> None:
    with pytest.raises(ArgumentError, match="'meta'"):
        MetricBuffer().push([torch.ones((), device="meta")])


def test_the_newest_event_is_asked_first_and_a_batch_is_read_at_once(device: SlowDevice) -> None:
    buffer = MetricBuffer()
    device.hold()
    handles = [only(buffer, device.tensor(float(n))) for n in range(40)]
    device.release()
    device.finish()
    asked = device.asked
    assert handles[0].ready()
    assert device.asked == asked + 1
    assert all(handle.known for handle in handles)
    assert [handle.result() for handle in handles] == list(range(40))
    assert device.asked == asked + 1
    assert device.waits == []


def test_of_a_device_that_lags_few_events_are_asked(device: SlowDevice) -> None:
    buffer = MetricBuffer()
    device.hold()
    handles = [only(buffer, device.tensor(float(n))) for n in range(40)]
    assert not handles[0].ready()
    assert device.asked == 2
    device.do(17)
    asked = device.asked
    assert handles[0].ready()
    assert device.asked - asked <= 2 + math.ceil(math.log2(40))
    assert [handle.known for handle in handles] == [n < 17 for n in range(40)]


def test_a_full_ring_is_emptied_by_its_producer_before_it_grows(device: SlowDevice) -> None:
    ring = Ring(device, device, width=1, depth=4)
    first = [ring.push(device.tensor([float(n)])) for n in range(4)]
    device.finish()
    assert not any(row.known for row in first)
    more = [ring.push(device.tensor([float(n)])) for n in range(4, 8)]
    assert ring.depth == 4
    assert [row.values for row in first] == [[0.0], [1.0], [2.0], [3.0]]
    assert [row.read() for row in more] == [[4.0], [5.0], [6.0], [7.0]]


def test_a_ring_whose_rows_are_all_on_their_way_grows_and_drops_none(device: SlowDevice) -> None:
    ring = Ring(device, device, width=2, depth=2)
    device.hold()
    rows = [ring.push(device.tensor([n, -n])) for n in range(50)]
    assert ring.depth == 64
    assert device.waits == []
    device.release()
    assert [row.read() for row in rows] == [[n, -n] for n in range(50)]


@settings(max_examples=60, deadline=None)
@given(
    depth=st.integers(1, 5),
    moves=st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(1, 3)),
            st.tuples(st.just("do"), st.integers(1, 6)),
            st.tuples(st.just("poll"), st.integers(0, 60)),
        ),
        max_size=60,
    ),
    data=st.data(),
)
def test_in_whatever_order_things_happen_each_row_gets_its_own_values(
    depth: int, moves: list[tuple[str, int]], data: st.DataObject
) -> None:
    device = SlowDevice()
    try:
        device.hold()
        ring = Ring(device, device, width=3, depth=depth)
        rows: list[tuple[Row, list[float]]] = []
        passed = 0
        dtypes = st.sampled_from([torch.float32, torch.float64, torch.int64])
        for move, amount in moves:
            if move == "push":
                values = [len(rows) * 10.0 + n for n in range(amount)]
                rows.append((ring.push(device.tensor(values, data.draw(dtypes))), values))
            elif move == "do":
                amount = min(amount, len(rows) - passed)
                device.do(amount)
                passed += amount
            elif rows:
                number = amount % len(rows)
                row, values = rows[number]
                assert row.ready() == (number < passed)
                assert row.values == (values if number < passed else None)
        device.release()
        assert [row.read() for row, _ in rows] == [values for _, values in rows]
        assert ring.depth <= max(depth, 2 * len(rows))
    finally:
        device.end()


def test_while_one_thread_pushes_others_read_and_all_get_the_right_numbers(
    device: SlowDevice,
) -> None:
    buffer, handles = MetricBuffer(), list[DeferredScalar]()
    done, wrong = threading.Event(), list[int]()

    def look() -> None:
        while not done.is_set() or not all(handle.known for handle in handles):
            for number, handle in enumerate(list(handles)):
                if handle.ready() and handle.result() != number:
                    wrong.append(number)

    readers = [threading.Thread(target=look) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(400):
        handles.append(only(buffer, device.tensor(number)))
        if number % 100 == 50:
            assert handles[number - 10].result() == number - 10
    done.set()
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()
    assert wrong == []
    assert [handle.result() for handle in handles] == list(range(400))


def test_one_who_waits_gets_the_number_and_the_others_that_came_with_it(
    device: SlowDevice,
) -> None:
    buffer = MetricBuffer()
    device.hold()
    handles = [only(buffer, device.tensor(n)) for n in range(3)]
    device.do(1)
    waiter: list[float] = []
    thread = threading.Thread(target=lambda: waiter.append(handles[2].result()))
    thread.start()
    # Another thread that only looks is not held up by the one that waits.
    assert not handles[2].ready()
    device.release()
    thread.join(30)
    assert waiter == [2.0]
    assert all(handle.known for handle in handles)
    assert device.waits == ["event"]


def test_a_device_that_fails_costs_what_was_on_its_way_and_says_so(device: SlowDevice) -> None:
    buffer = MetricBuffer()
    here = only(buffer, device.tensor(1.0))
    assert here.result() == 1.0
    device.hold()
    lost, waited = (only(buffer, device.tensor(n)) for n in (2.0, 3.0))
    device.fail(RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        waited.result()
    with pytest.raises(RuntimeError, match="illegal memory access"):
        lost.ready()
    assert lost.known
    assert here.result() == 1.0


def test_a_push_while_a_graph_is_captured_is_refused_and_the_next_one_works(
    device: SlowDevice,
) -> None:
    buffer, loss = MetricBuffer(), device.tensor(1.0)
    device.captures = True
    with pytest.raises(StepbusError, match=r"while a CUDA graph is captured.*after each replay"):
        buffer.push([loss])
    assert buffer.push([0.5]) == ([0.5], ())
    device.captures = False
    assert only(buffer, loss).result() == 1.0


def test_asking_during_somebody_elses_capture_is_put_off_rather_than_taken_for_a_failure(
    device: SlowDevice,
) -> None:
    buffer = MetricBuffer()
    handle = only(buffer, device.tensor(1.0))
    device.finish()
    device.refuses = RuntimeError("CUDA error: operation not permitted when stream is capturing")
    assert not handle.ready()
    device.refuses = RuntimeError("CUDA error: operation not permitted when stream is capturing")
    with pytest.raises(StepbusError, match="read it before or after"):
        handle.result()
    assert handle.ready()
    assert handle.result() == 1.0


def test_undisturbed_nobody_else_asks_the_device(device: SlowDevice) -> None:
    buffer = MetricBuffer()
    handle = only(buffer, device.tensor(1.0))
    device.finish()
    found: list[bool] = []
    with buffer.undisturbed():
        asked = device.asked
        look = threading.Thread(target=lambda: found.append(handle.ready()))
        look.start()
        look.join(30)
        assert (found, device.asked) == ([False], asked)
        # Its own thread may.
        assert handle.ready()
    assert handle.result() == 1.0


def test_of_a_kind_of_device_that_it_does_not_know_values_are_waited_for(
    device: SlowDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = device.tensor(1.5)
    monkeypatch.delitem(KINDS, "privateuseone")
    assert accelerator_of(loss.device) is None
    assert MetricBuffer().push([loss, 2]) == ([1.5, 2.0], ())
    assert device.waits == ["item"]
    monkeypatch.setitem(KINDS, "privateuseone", lambda _: device)


def test_two_buffers_in_one_process_have_rings_of_their_own(device: SlowDevice) -> None:
    device.hold()
    first, second = MetricBuffer(), MetricBuffer()
    one, two = only(first, device.tensor(1.0)), only(second, device.tensor(2.0))
    device.do(1)
    assert (one.ready(), two.ready()) == (True, False)
    device.release()
    assert (one.result(), two.result()) == (1.0, 2.0)


MakeBus = Callable[..., EventBus]


@pytest.fixture
def make_bus() -> Iterator[MakeBus]:
    buses = []

    def make(**options: Any) -> EventBus:
        buses.append(EventBus(**options).start())
        return buses[-1]

    yield make
    for bus in buses:
        bus.close()


def test_events_wait_for_a_slow_device_in_order(device: SlowDevice, make_bus: MakeBus) -> None:
    bus = make_bus()
    recorder = bus.subscribe(Recorder())
    link, buffer = bus.open_run(TrainerState()), MetricBuffer()
    device.hold()
    for step in range(200):
        numbers, handles = buffer.push([device.tensor(float(step)), device.tensor(0.5)])
        link.emit("step_end", {"loss": numbers[0], "grad_norm": numbers[1]}, handles)
        link.emit("step_begin")
    assert not bus.flush(0.05)
    assert recorder.kinds == []
    device.do(150)
    recorder.wait_for("step_end", count=150)
    device.release()
    assert bus.flush(30)
    assert recorder.kinds == ["step_end", "step_begin"] * 200
    assert [event.loss for event in recorder.of(StepEnd)] == list(range(200))
    assert device.waits == []


def test_after_thirty_seconds_an_event_goes_out_without_the_values_of_a_device_that_hangs(
    device: SlowDevice, make_bus: MakeBus, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    bus = make_bus(clock=clock)
    recorder = bus.subscribe(Recorder())
    link, buffer = bus.open_run(TrainerState()), MetricBuffer()
    device.hold()
    numbers, handles = buffer.push([device.tensor(1.0), 0.5])
    link.emit("step_end", {"loss": numbers[0], "grad_norm": numbers[1]}, handles)
    assert not bus.flush(0.05)
    clock.advance(30.1)
    (event,) = recorder.wait_for(StepEnd)
    assert (event.loss, event.grad_norm, event.unresolved) == (None, 0.5, ("loss",))
    assert "without its values from the device" in caplog.text
    device.release()
    assert handles[0].result() == 1.0


def test_events_of_a_device_that_failed_go_out_without_its_values(
    device: SlowDevice, make_bus: MakeBus
) -> None:
    bus = make_bus()
    recorder = bus.subscribe(Recorder())
    link, buffer = bus.open_run(TrainerState()), MetricBuffer()
    device.hold()
    numbers, handles = buffer.push([device.tensor(1.0)])
    link.emit("step_end", {"loss": numbers[0]}, handles)
    device.fail(RuntimeError("CUDA error: unspecified launch failure"))
    link.emit("train_end")
    assert bus.flush(30)
    assert recorder.kinds == ["step_end", "train_end"]
    assert recorder.of(StepEnd)[0].unresolved == ("loss",)
