"""Logs of a loop whose scalars are on a slow accelerator: the CPU's, and not waited for."""

from __future__ import annotations

import copy
import json
import math
import pickle
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

from stepbus import EventBus, TrainerCallback, TrainingArguments, TrainingRun
from stepbus.schemas import TrainerState
from stepbus.schemas.errors import ArgumentError, StepbusError
from tests.engine.slow_device import SlowDevice

if TYPE_CHECKING:
    from tests.engine.conftest import Loop, Recorder

STEPS = 10


class DeviceLoop:
    """A loop of ten steps whose loss, norm and logged values are put where they are told to."""

    def __init__(self, folder: Any, recorder: Recorder, put: Callable[[float], Any]) -> None:
        self.folder = folder
        self.recorder = recorder
        self.put = put
        self.in_step: Callable[[TrainingRun], object] = lambda run: None
        """Called in each step, before `end_step`."""
        self.at_end: Callable[[TrainingRun], object] = lambda run: None
        """Called after the last step."""
        self.run: TrainingRun

    def train(
        self, *, callbacks: Any = (), bus: EventBus | None = None, **fields: Any
    ) -> DeviceLoop:
        quiet: dict[str, Any] = {
            "logging_steps": 4,
            "save_strategy": "no",
            "max_steps": STEPS,
            "report_to": "none",
        }
        args = TrainingArguments(str(self.folder), **{**quiet, **fields})
        model = torch.nn.Linear(2, 1)
        with TrainingRun(
            args, model=model, callbacks=[self.recorder, *callbacks], bus=bus
        ) as self.run:
            for _ in self.run.steps([torch.ones(1)] * STEPS):
                step = self.run.state.global_step + 1
                self.run.log({"aux": self.put(step / 3), "both": self.put(step)})
                self.run.log({"both": 0.5, "text": "x"})
                self.in_step(self.run)
                self.run.end_step(loss=self.put(0.1 * step), grad_norm=self.put(step / 7))
                if step == STEPS:
                    self.at_end(self.run)
        return self

    @property
    def waits(self) -> dict[str, int]:
        assert self.run.summary is not None
        run = self.run.summary.ledger.run
        assert run is not None
        return run.waits


@pytest.fixture
def make(tmp_path: Any, device: SlowDevice) -> Callable[..., DeviceLoop]:
    from tests.engine.conftest import Recorder

    def make(name: str = "out", *, on_device: bool = True) -> DeviceLoop:
        def put(value: float) -> Any:
            tensor = torch.tensor(value)
            return device.tensor(tensor) if on_device else tensor

        return DeviceLoop(tmp_path / name, Recorder(), put)

    return make


def logged(loop: DeviceLoop) -> list[dict[str, Any]]:
    timed = {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
    return [
        {k: v for k, v in event.logs.items() if k not in timed} for event in loop.recorder.of("log")
    ]


def test_logs_history_and_steps_equal_those_of_the_cpu_to_the_bit(
    make: Callable[..., DeviceLoop],
) -> None:
    slow, host = make("slow").train(), make("host", on_device=False).train()
    assert logged(slow) == logged(host)
    assert len(logged(slow)) == 3
    assert list(logged(slow)[0]) == ["loss", "grad_norm", "aux", "both", "text", "epoch"]
    rows = [{**event.logs, "step": event.step} for event in slow.recorder.of("log")]
    assert slow.run.state.log_history == rows
    steps = [
        [(e.step, e.loss, e.grad_norm) for e in each.recorder.of("step_end")]
        for each in (slow, host)
    ]
    assert steps[0] == steps[1]
    assert len(steps[0]) == STEPS


def test_a_device_that_is_held_for_the_whole_training_holds_up_no_step(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    loop = make()
    device.hold()
    seen: list[list[str]] = []

    def after_the_last(run: TrainingRun) -> None:
        if run.state.global_step == STEPS - 1:
            seen.append([event.name for event in loop.recorder.of("step_end", "log")])
            assert device.waits == []
            device.release()

    loop.in_step = after_the_last
    loop.train()
    assert seen == [[]], "events wait for their values"
    assert len(loop.recorder.of("step_end")) == STEPS
    assert loop.waits.keys() <= {"the end of training"}


def test_subscribers_get_plain_floats_in_order_whenever_the_values_come(
    make: Callable[..., DeviceLoop],
) -> None:
    loop = make().train()
    logs = [event.logs for event in loop.recorder.of("log")]
    assert all(type(value) in (float, str) for log in logs[:2] for value in log.values())
    assert [event.step for event in loop.recorder.of("step_end")] == list(range(1, STEPS + 1))
    assert [event.unresolved for event in loop.recorder.events] == [()] * len(loop.recorder.events)
    views = [list(event.state.log_history) for event in loop.recorder.of("log")]
    assert views == [loop.run.state.log_history[: n + 1] for n in range(3)]


class Overrides(TrainerCallback):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        self.logs.append(dict(keywords["logs"]))


class Inherits(TrainerCallback):
    """Has another hook of its own, and not this one."""

    def on_save(self, args: Any, state: Any, control: Any, **keywords: Any) -> None: ...


def test_a_callback_that_overrides_on_log_gets_floats_and_is_named_for_the_wait(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    loop, callback = make(), Overrides()
    device.work_when_waited_for()
    loop.at_end = lambda run: device.release()
    loop.train(callbacks=[Inherits(), callback])
    assert callback.logs[:2] == logged(loop)[:2]
    assert loop.run.summary is not None
    rows = {row.subscriber: row for row in loop.run.summary.ledger}
    assert rows["Overrides"].waits == 2 * 4
    assert rows["Overrides"].wait_s > 0
    assert rows["Inherits"].waits == 0
    assert loop.waits.keys() <= {"the end of training"}


def test_a_callback_with_an_inherited_hook_costs_no_wait(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    loop = make()
    loop.in_step = lambda run: None if run.state.global_step < STEPS - 1 else check()

    def check() -> None:
        assert device.waits == []

    loop.train(callbacks=[Inherits()])


def test_reading_the_history_on_the_training_thread_waits_and_says_so(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    loop = make()
    rows: list[dict[str, Any]] = []

    def read(run: TrainingRun) -> None:
        if run.state.global_step == 4:
            assert device.waits == []
            (row,) = run.state.log_history
            rows.append(row)
            assert type(row) is dict

    loop.in_step = read
    loop.at_end = lambda run: device.release()
    device.work_when_waited_for()
    loop.train()
    assert rows[0] == {**logged(loop)[0], "step": 4}
    assert loop.waits["state.log_history"] == 4
    assert json.dumps(loop.run.state.log_history)


def test_a_row_that_has_arrived_is_put_into_the_history_when_the_next_one_comes(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    state = TrainerState()
    loop = make()
    found: list[bool] = []

    def look(run: TrainingRun) -> None:
        nonlocal state
        state = run.state
        device.finish()
        assert run.bus.flush(10)
        if run.state.global_step == 8:
            found.extend(type(row) is dict for row in vars(state)["log_history"])

    loop.in_step = look
    loop.train()
    assert found == [True, False]
    assert not vars(state)["_pending"]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))]
)
def test_copies_of_the_state_have_numbers(
    make: Callable[..., DeviceLoop], copied: Callable[[TrainerState], TrainerState]
) -> None:
    loop = make()
    copies: list[TrainerState] = []

    def at_step_4(run: TrainingRun) -> None:
        if run.state.global_step == 4:
            copies.append(copied(run.state))

    loop.in_step = at_step_4
    loop.train()
    assert copies[0].log_history[0] == loop.run.state.log_history[0]
    assert all(type(value) in (float, str, int) for value in copies[0].log_history[0].values())
    assert copies[0].rest() == copies[0].new_rest()


def test_a_checkpoint_waits_on_its_own_account_and_a_resumed_run_goes_on_with_its_sums(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    device.work_when_waited_for()
    whole = make("whole")
    whole.at_end = lambda run: device.release()
    whole.train(save_strategy="steps", save_steps=6, logging_steps=5)
    assert whole.waits.keys() <= {"a checkpoint", "the end of training"}
    assert whole.waits["a checkpoint"] >= 1
    state = json.loads((whole.folder / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["log_history"][0]["loss"] == logged(whole)[0]["loss"]
    resumed = make("resumed").train(
        logging_steps=5, resume_from_checkpoint=str(whole.folder / "checkpoint-6")
    )
    assert logged(resumed) == logged(whole)[1:]


def test_metrics_of_an_evaluation_that_are_on_a_device_are_read_in_one_go(
    loop: Loop, device: SlowDevice
) -> None:
    def evaluate() -> dict[str, Any]:
        return {"loss": device.tensor(0.25), "acc": device.tensor(0.5), "host": 1.0, "n": 3}

    device.work_when_waited_for()
    loop.train(evaluate=evaluate, eval_strategy="steps", eval_steps=6)
    metrics = loop.recorder.of("evaluate")[0].metrics
    assert list(metrics)[:4] == ["eval_loss", "eval_acc", "eval_host", "eval_n"]
    assert [metrics[f"eval_{name}"] for name in ("loss", "acc", "host", "n")] == [0.25, 0.5, 1.0, 3]
    assert loop.run.summary is not None
    assert loop.run.summary.ledger.run is not None
    assert loop.run.summary.ledger.run.waits == {"an evaluation": 4}
    assert device.waits == ["event"] * 2


def test_a_learning_rate_on_a_device_is_the_one_that_the_step_used(
    loop: Loop, device: SlowDevice
) -> None:
    rate = device.tensor(0.5)
    loop.scheduler.step = lambda *_: loop.optimizer.param_groups[0]["lr"].mul_(0.5)  # type: ignore[method-assign]
    loop.optimizer.step = lambda *_: None  # type: ignore[method-assign]
    loop.optimizer.param_groups[0]["lr"] = rate
    loop.train(logging_strategy="steps", logging_steps=3)
    rates = [event.learning_rate for event in loop.recorder.of("step_end")]
    assert rates == [0.5**n for n in range(1, 13)]
    logs = [event.logs["learning_rate"] for event in loop.recorder.of("log")[:4]]
    assert logs == [0.5**n for n in (3, 6, 9, 12)]
    assert device.waits == []


def test_what_is_no_scalar_is_refused_where_it_is_logged(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    loop = make()
    loop.in_step = lambda run: run.log({"logits": device.tensor([1.0, 2.0])})
    with pytest.raises(ArgumentError, match=r"shape \(2,\).*no scalar"):
        loop.train()


def test_logging_while_a_graph_is_captured_is_refused(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    loop = make()
    kept = device.tensor(1.0)

    def capture(run: TrainingRun) -> None:
        device.captures = True
        try:
            with pytest.raises(StepbusError, match="while a CUDA graph is captured"):
                run.log({"aux": kept})
            run.log({"host": 1.0})
        finally:
            device.captures = False

    loop.in_step = capture
    loop.train()
    assert logged(loop)[0]["host"] == 1.0


def test_a_device_that_fails_costs_the_values_alone(
    make: Callable[..., DeviceLoop], device: SlowDevice, caplog: pytest.LogCaptureFixture
) -> None:
    loop = make()

    def fail(run: TrainingRun) -> None:
        if run.state.global_step == 5:
            device.finish()
            assert run.bus.flush(10)
            device.hold()
        if run.state.global_step == 8:
            device.fail(RuntimeError("CUDA error: unspecified launch failure"))

    loop.in_step = fail
    with pytest.raises(RuntimeError, match="launch failure"):
        loop.train()
    (failed,) = loop.recorder.of("run_failed")
    assert "launch failure" in failed.message
    logs = loop.recorder.of("log")
    assert [log.unresolved for log in logs] == [(), ("loss", "grad_norm", "aux", "both")]
    assert dict(logs[1].logs) == {
        "loss": None,
        "grad_norm": None,
        "aux": None,
        "both": None,
        "text": "x",
        "epoch": 0.8,
    }
    assert loop.run.state.log_history[1]["loss"] is None
    steps = loop.recorder.of("step_end")
    assert [step.loss is None for step in steps] == [False] * 5 + [True] * 3
    assert "cannot be read from its device" in caplog.text


def test_nan_and_infinity_on_the_device_are_logged_as_they_are(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    loop = make()
    values = {"nan": math.nan, "inf": math.inf}
    loop.in_step = lambda run: run.log({k: device.tensor(v) for k, v in values.items()})
    loop.train()
    assert math.isnan(logged(loop)[0]["nan"])
    assert logged(loop)[0]["inf"] == math.inf


def test_a_compiled_step_may_log(make: Callable[..., DeviceLoop]) -> None:
    loop = make(on_device=False)

    @torch.compile(backend="eager")
    def step(x: torch.Tensor) -> torch.Tensor:
        y = (x * 2).sum()
        loop.run.log({"inside": y})
        return y + 1

    loop.in_step = lambda run: run.log({"outside": step(torch.ones(3))})
    loop.train()
    assert (logged(loop)[0]["inside"], logged(loop)[0]["outside"]) == (6.0, 7.0)


def test_under_the_capture_guard_only_its_own_thread_asks_the_device(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    loop = make()

    def capture(run: TrainingRun) -> None:
        if run.state.global_step == 4:
            with run.capture_guard():
                device.release()
                device.finish()
                asked = device.asked
                # The pump has the event of the log to hand on, and leaves the device alone.
                assert not run.bus.flush(0.1)
                assert device.asked == asked
            assert run.bus.flush(10)
            assert loop.recorder.of("log")

    device.hold()
    loop.in_step = capture
    loop.train()


def test_two_trainings_in_one_process_do_not_meet(
    make: Callable[..., DeviceLoop], device: SlowDevice
) -> None:
    loops = [make("first"), make("second")]
    meet = threading.Barrier(2)

    def in_step(run: TrainingRun) -> None:
        meet.wait(30)

    def train(loop: DeviceLoop, scale: float) -> None:
        put, loop.in_step = loop.put, in_step
        loop.put = lambda value: put(scale * value)
        loop.train(logging_steps=1)

    threads = [
        threading.Thread(target=train, args=(loop, scale))
        for loop, scale in zip(loops, (1.0, 100.0), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    losses = [[event.loss for event in loop.recorder.of("step_end")] for loop in loops]
    assert losses[0] == [float(torch.tensor(0.1 * step)) for step in range(1, STEPS + 1)]
    assert losses[1] == [float(torch.tensor(100 * (0.1 * step))) for step in range(1, STEPS + 1)]
    logs = [[event.logs["loss"] for event in loop.recorder.of("log")[:STEPS]] for loop in loops]
    assert logs == losses
    # Each waits on its own account, though neither run is on the main thread.
    for loop in loops:
        assert loop.waits.keys() <= {"the end of training"}
