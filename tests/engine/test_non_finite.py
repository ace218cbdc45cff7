"""NaN and infinities of losses and gradient norms: noticed, said, and voted about; in no wait."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from stepbus import EventBus, TrainingArguments, TrainingRun, Vote
from tests.engine.slow_device import SlowDevice

if TYPE_CHECKING:
    from tests.engine.conftest import Recorder

STEPS = 12
NAN, INF = math.nan, math.inf

Put = Callable[[float], Any]
Train = Callable[..., "Trained"]


class Trained:
    """A loop of twelve steps, some of whose values are not finite."""

    def __init__(self, run: TrainingRun, recorder: Recorder, model: torch.nn.Linear) -> None:
        self.run = run
        self.recorder = recorder
        self.model = model

    @property
    def found(self) -> list[tuple[str, int, int, int]]:
        return [
            (event.value, event.at_step, event.count, event.in_a_row)
            for event in self.recorder.of("non_finite")
        ]

    @property
    def status(self) -> str:
        assert self.run.summary is not None
        return self.run.summary.status

    @property
    def waits(self) -> dict[str, int]:
        assert self.run.summary is not None
        assert self.run.summary.ledger.run is not None
        return self.run.summary.ledger.run.waits


@pytest.fixture
def train(tmp_path: Path) -> Train:
    from tests.engine.conftest import Recorder

    def train(
        losses: Mapping[int, float],
        norms: Mapping[int, float] | None = None,
        *,
        put: Put = torch.tensor,
        asks: bool = False,
        listens: bool = True,
        in_step: Callable[[int], object] = lambda step: None,
        bus: EventBus | None = None,
        **fields: Any,
    ) -> Trained:
        recorder = Recorder()
        quiet: dict[str, Any] = {
            "save_strategy": "no",
            "logging_steps": 4,
            "max_steps": STEPS,
            "report_to": "none",
            "disable_tqdm": True,
        }
        args = TrainingArguments(str(tmp_path / "out"), **{**quiet, **fields})
        model = torch.nn.Linear(1, 1)
        torch.nn.init.zeros_(model.weight)
        callbacks = [recorder] if listens else []
        with TrainingRun(args, model=model, callbacks=callbacks, bus=bus) as run:
            for _ in run.steps([torch.ones(1)] * STEPS):
                step = run.state.global_step + 1
                loss = put(losses.get(step, 0.5))
                norm = put((norms or {}).get(step, 0.25))
                in_step(step)
                if not asks or run.is_finite(loss, grad_norm=norm):
                    with torch.no_grad():
                        model.weight.add_(1.0)
                run.end_step(loss=loss, grad_norm=norm)
        return Trained(run, recorder, model)

    return train


@pytest.fixture(params=["host", "device"])
def put(request: pytest.FixtureRequest) -> Put:
    """Where the values are; on the device each step's have arrived when the next one ends."""
    if request.param == "host":
        return torch.tensor
    device: SlowDevice = request.getfixturevalue("device")

    def put(value: float) -> Any:
        device.finish()
        return device.tensor(value)

    return put


def test_finite_values_make_no_event_and_no_vote(train: Train, put: Put) -> None:
    huge = 3e38
    trained = train({3: huge}, {3: huge}, put=put, nan_policy="stop")
    assert (trained.found, trained.status) == ([], "finished")
    assert trained.run.summary is not None
    assert trained.run.summary.non_finite == {}


def test_by_default_they_are_reported_and_the_run_goes_on(
    train: Train, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    trained = train({3: NAN, 9: -INF}, {5: INF}, put=put)
    assert trained.found == [("loss", 3, 1, 1), ("grad_norm", 5, 1, 1), ("loss", 9, 2, 1)]
    numbers = [event.number for event in trained.recorder.of("non_finite")]
    assert math.isnan(numbers[0])
    assert numbers[1:] == [INF, -INF]
    assert (trained.status, trained.run.state.global_step) == ("finished", STEPS)
    assert trained.run.summary is not None
    assert trained.run.summary.non_finite == {"loss": 2, "grad_norm": 1}
    lines = [r.getMessage() for r in caplog.records if "nan_policy" in r.getMessage()]
    assert len(lines) == 2, "one line for each of the two values"
    assert "the loss of step 3 is nan (nan_policy='report')" in lines[0]
    assert "the gradient norm of step 5 is inf" in lines[1]
    logs = [event.logs["loss"] for event in trained.recorder.of("log")[:3]]
    assert [math.isfinite(loss) for loss in logs] == [False, True, False]
    assert trained.waits.keys() <= {"the end of training"}


def test_of_many_in_a_row_some_are_told_and_all_are_counted(train: Train, put: Put) -> None:
    trained = train(dict.fromkeys(range(2, 12), NAN), put=put)
    assert trained.found == [("loss", 2 + n - 1, n, n) for n in (1, 2, 4, 8)]
    assert trained.run.summary is not None
    assert trained.run.summary.non_finite == {"loss": 10}


def test_of_two_values_each_has_a_row_of_its_own(train: Train, put: Put) -> None:
    trained = train(dict.fromkeys((2, 3, 4), NAN), {3: INF, 5: INF}, put=put)
    assert sorted(trained.found) == [
        ("grad_norm", 3, 1, 1),
        ("grad_norm", 5, 2, 1),
        ("loss", 2, 1, 1),
        ("loss", 3, 2, 2),
    ]


def test_a_stop_policy_stops_at_that_very_step(train: Train) -> None:
    trained = train({5: NAN}, nan_policy="stop")
    assert (trained.status, trained.run.state.global_step) == ("stopped", 5)
    assert trained.found == [("loss", 5, 1, 1)]
    (verdict,) = trained.recorder.of("verdict")
    assert (verdict.action, verdict.outcome, verdict.acted_at) == ("stop", "acted", 5)
    assert [vote.voter for vote in verdict.votes] == ["nan_policy"]
    assert trained.run.summary is not None
    assert trained.run.summary.reason == "the loss of step 5 is nan"
    names = [event.name for event in trained.recorder.of("step_end", "non_finite", "verdict")]
    assert names[-3:] == ["step_end", "non_finite", "verdict"]


@pytest.mark.parametrize("listens", [True, False])
def test_on_a_device_it_stops_a_step_later_whoever_listens(
    train: Train, device: SlowDevice, listens: bool
) -> None:
    def in_step(step: int) -> None:
        if step == 5:
            device.hold()
        if step == 6:
            device.release()
            device.finish()

    fields: dict[str, Any] = {"nan_policy": "stop", "listens": listens, "in_step": in_step}
    trained = train({}, {5: INF}, put=device.tensor, **fields)
    assert (trained.status, trained.run.state.global_step) == ("stopped", 6)
    assert trained.run.summary is not None
    assert trained.run.summary.reason == "the gradient norm of step 5 is inf"
    assert trained.run.summary.non_finite == {"grad_norm": 1}
    if listens:
        (event,) = trained.recorder.of("non_finite")
        assert (event.at_step, event.step) == (5, 6)


def test_no_step_waits_for_a_device_that_lags_and_the_end_tells_what_came(
    train: Train, device: SlowDevice
) -> None:
    def in_step(step: int) -> None:
        if step == STEPS:
            assert device.waits == []
            device.release()

    device.hold()
    trained = train({3: NAN, 12: NAN}, put=device.tensor, in_step=in_step, nan_policy="stop")
    assert [(e.at_step, e.count) for e in trained.recorder.of("non_finite")] == [(3, 1), (12, 2)]
    assert trained.status == "finished", "the steps were done before it was known"
    assert trained.waits.keys() <= {"the end of training"}
    names = [event.name for event in trained.recorder.of("non_finite", "train_end")]
    assert names == ["non_finite", "non_finite", "train_end"]


def test_one_copy_a_step_serves_the_events_and_the_watch(train: Train, device: SlowDevice) -> None:
    made: list[object] = []
    original = device.record

    def record(event: Any, stream: object) -> None:
        made.append(event)
        original(event, stream)

    device.record = record  # type: ignore[method-assign]
    train({}, put=device.tensor, logging_strategy="no")
    # The first step does not know yet, and the end reads the mean of the run.
    assert len(made) in (STEPS + 1, STEPS + 2, STEPS + 3)


def test_somebody_who_knows_better_may_veto(train: Train, put: Put) -> None:
    bus = EventBus()

    @bus.subscribe("step_end", delivery="gate", name="bold")
    def veto(event: Any) -> Vote:
        return Vote("stop", against=True, reason="it recovers")

    trained = train({5: NAN}, put=put, nan_policy="stop", bus=bus)
    assert (trained.status, trained.run.state.global_step) == ("finished", STEPS)
    outcomes = [
        verdict.outcome
        for verdict in trained.recorder.of("verdict")
        if "nan_policy" in [vote.voter for vote in verdict.votes]
    ]
    assert outcomes == ["vetoed"]


def test_asked_before_the_optimizer_steps_a_strict_run_keeps_its_weights(
    train: Train, put: Put
) -> None:
    trained = train({5: NAN}, put=put, asks=True, nan_policy="strict")
    assert trained.model.weight.item() == 4.0
    assert (trained.status, trained.run.state.global_step) == ("stopped", 5)
    assert trained.found == [("loss", 5, 1, 1)], "it is not counted at the step's end again"
    assert trained.run.summary is not None
    assert trained.run.summary.reason == "the loss of step 5 is nan"


def test_asking_waits_for_the_device_and_the_ledger_says_so(
    train: Train, device: SlowDevice
) -> None:
    def in_step(step: int) -> None:
        if step == STEPS:
            device.release()

    device.work_when_waited_for()
    fields: dict[str, Any] = {"asks": True, "in_step": in_step, "logging_strategy": "no"}
    trained = train({}, put=device.tensor, nan_policy="strict", **fields)
    assert trained.waits["nan_policy='strict'"] >= 2 * (STEPS - 1)


def test_strict_in_a_loop_that_does_not_ask_stops_like_stop(train: Train) -> None:
    trained = train({5: NAN}, nan_policy="strict")
    assert trained.model.weight.item() == 5.0
    assert (trained.status, trained.run.state.global_step) == ("stopped", 5)


def test_values_that_are_lost_with_the_device_are_no_news(train: Train, device: SlowDevice) -> None:
    def in_step(step: int) -> None:
        if step == 4:
            device.fail(RuntimeError("CUDA error: unspecified launch failure"))

    device.hold()
    with pytest.raises(RuntimeError, match="launch failure"):
        train({2: NAN}, put=device.tensor, in_step=in_step)


def test_the_event_reads_back_from_its_json(train: Train) -> None:
    from stepbus import NonFinite, parse_event

    (event,) = train({3: -INF}).recorder.of("non_finite")
    back = parse_event(event.to_json())
    assert isinstance(back, NonFinite)
    assert back == event
