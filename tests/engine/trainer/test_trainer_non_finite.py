"""The Trainer under each policy for NaN, beside the weights that it had before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stepbus import EventBus, Trainer, TrainerCallback, Vote
from stepbus.engine.trainer import training
from tests.engine.slow_device import SlowDevice
from tests.engine.trainer.conftest import Regression, Watcher

Make = Callable[..., Trainer]


class Breaks(Regression):
    """Its loss is NaN in the micro-batch with that number."""

    calls = 0

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        outputs = super().forward(x, labels)
        self.calls += 1
        if self.calls == self.at:
            outputs["loss"] = outputs["loss"] * float("nan")
        return outputs


class Keeps(TrainerCallback):
    """Keeps the weights before and after each step."""

    def __init__(self) -> None:
        self.after: list[list[Tensor]] = []
        self.rates: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
        self.after.append([p.detach().clone() for p in kw["model"].parameters()])
        self.rates.append(kw["lr_scheduler"].get_last_lr()[0])


def trained(
    make_trainer: Make, *, at: int, kind: type[Trainer] = Trainer, **fields: Any
) -> tuple[Trainer, Watcher, Keeps]:
    watcher, keeps = Watcher(), Keeps()
    trainer = make_trainer(
        trainer_class=kind, model=Breaks(at), given={"callbacks": [watcher, keeps]}, **fields
    )
    trainer.train()
    return trainer, watcher, keeps


def finite(weights: list[Tensor]) -> bool:
    return all(bool(torch.isfinite(weight).all()) for weight in weights)


def test_by_default_a_broken_run_is_reported_and_goes_on(make_trainer: Make) -> None:
    trainer, watcher, keeps = trained(make_trainer, at=3)
    assert trainer.state.global_step == 12
    assert not finite(keeps.after[2])
    assert {(event.value, event.at_step) for event in watcher.of("non_finite")} >= {
        ("loss", 3),
        ("grad_norm", 3),
    }
    assert trainer.summary is not None
    # From then on the weights are NaN, and with them all that follows.
    assert trainer.summary.non_finite == {"loss": 10, "grad_norm": 10}


@pytest.mark.parametrize("accumulation", [1, 2])
def test_stop_stops_after_the_step(make_trainer: Make, accumulation: int) -> None:
    fields: dict[str, Any] = {"gradient_accumulation_steps": accumulation, "nan_policy": "stop"}
    trainer, watcher, keeps = trained(make_trainer, at=4, **fields)
    step = 4 // accumulation
    assert trainer.summary is not None
    assert (trainer.summary.status, trainer.state.global_step) == ("stopped", step)
    # Two values were not finite, and the newest vote of a voter stands.
    assert trainer.summary.reason == f"the gradient norm of step {step} is nan"
    assert not finite(keeps.after[-1])
    assert len(watcher.of("optimizer_step")) == step


@pytest.mark.parametrize("accumulation", [1, 2])
def test_strict_stops_before_the_optimizer_steps(make_trainer: Make, accumulation: int) -> None:
    fields: dict[str, Any] = {"gradient_accumulation_steps": accumulation, "nan_policy": "strict"}
    trainer, watcher, keeps = trained(make_trainer, at=4, **fields)
    step = 4 // accumulation
    assert trainer.summary is not None
    assert (trainer.summary.status, trainer.state.global_step) == ("stopped", step)
    assert all(
        torch.equal(now, before)
        for now, before in zip(keeps.after[-1], keeps.after[-2], strict=True)
    )
    assert finite(keeps.after[-1])
    assert keeps.rates[-1] == keeps.rates[-2], "the schedule waits too"
    assert len(watcher.of("optimizer_step")) == len(watcher.of("pre_optimizer_step")) == step - 1
    found = [(event.value, event.at_step, event.count) for event in watcher.of("non_finite")]
    assert found == [("loss", step, 1), ("grad_norm", step, 1)]


def test_strict_gives_the_weights_of_a_run_without_it_where_nothing_breaks(
    make_trainer: Make,
) -> None:
    weights = []
    for policy in ("report", "strict"):
        _, watcher, keeps = trained(make_trainer, at=0, nan_policy=policy)
        weights.append(keeps.after[-1])
        assert watcher.of("non_finite") == []
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


@pytest.mark.parametrize("policy", ["stop", "strict"])
def test_losses_on_a_device_are_looked_at_under_each_policy(
    make_trainer: Make, device: SlowDevice, policy: str
) -> None:
    class OnDevice(Trainer):
        def training_step(self, *given: Any, **named: Any) -> Tensor:
            device.finish()
            return device.tensor(super().training_step(*given, **named))

    trainer, watcher, keeps = trained(make_trainer, at=4, kind=OnDevice, nan_policy=policy)
    assert trainer.summary is not None
    assert trainer.summary.status == "stopped"
    assert watcher.of("non_finite")[0].at_step == 4
    assert finite(keeps.after[3]) == (policy == "strict")
    waits = trainer.ledger.run.waits if trainer.ledger.run is not None else {}
    assert ("nan_policy='strict'" in waits) <= (policy == "strict")


def test_gradients_that_a_scaler_deals_with_are_not_reported(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    monkeypatch.setattr(training, "make_scaler", lambda args, device: scaler)
    trainer, watcher, _ = trained(make_trainer, at=0, nan_policy="stop")
    assert watcher.of("optimizer_step_skipped")
    assert trainer.state.global_step == 12
    assert watcher.of("non_finite") == []


def test_strict_goes_on_under_a_scaler_where_the_stop_is_vetoed(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    monkeypatch.setattr(training, "make_scaler", lambda args, device: scaler)
    bus = EventBus()

    @bus.subscribe("step_end", delivery="gate", name="bold")
    def veto(event: Any) -> Vote | None:
        return Vote("stop", against=True, reason="it recovers") if event.step == 4 else None

    watcher = Watcher()
    given = {"callbacks": [watcher], "bus": bus}
    trainer = make_trainer(model=Breaks(4), given=given, nan_policy="strict", max_steps=8)
    trainer.train()
    assert trainer.state.global_step == 8
    assert finite(list(trainer.model.parameters()))
    assert [(event.value, event.at_step) for event in watcher.of("non_finite")] == [("loss", 4)]
    assert watcher.of("optimizer_step_skipped") == []
    assert len(watcher.of("optimizer_step")) == 7
