"""The same seed gives the same weights, bit for bit, whoever listens and votes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from stepbus import EventBus, Subscriber, TrainerCallback, Vote, VotePolicy

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


def draw() -> None:
    random.random()
    random.gauss(0, 1)
    np.random.normal()
    torch.rand(3)


class DrawsInTheGate(TrainerCallback):
    def on_step_begin(self, *args: Any, **keywords: Any) -> None:
        draw()

    on_substep_end = on_optimizer_step = on_epoch_begin = on_log = on_evaluate = on_step_begin
    on_prediction_step = on_save = on_train_begin = on_init_end = on_step_begin


class VotesInTheGate(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        draw()
        control.should_evaluate = state.global_step % 3 == 1
        control.should_save = state.global_step % 5 == 2
        control.should_log = state.global_step % 2 == 1


class Concurrent(Subscriber):
    def on_step_end(self, event: Any) -> Vote | None:
        return Vote("evaluate") if event.step % 4 == 3 else None

    def on_log(self, event: Any) -> Vote:
        return Vote("save")

    def on_evaluate(self, event: Any) -> list[Vote]:
        return [Vote("log"), Vote("save", against=True)]


def subscribe(bus: EventBus, number: int) -> None:
    def in_the_gate(event: Any) -> Vote | None:
        draw()
        return Vote("evaluate") if (event.step + number) % 7 == 0 else None

    async def on_the_loop(event: Any) -> Vote | None:
        return Vote("log") if event.step % 5 == number else None

    def in_a_thread(event: Any) -> None:
        assert event.state.global_step == event.step

    bus.subscribe("step_end", "substep_end", delivery="gate", name=f"gate {number}")(in_the_gate)
    bus.subscribe("*", name=f"loop {number}")(on_the_loop)
    bus.subscribe("*", name=f"thread {number}")(in_a_thread)


@pytest.mark.parametrize("evaluating", [False, True], ids=["no schedule", "scheduled evaluations"])
def test_weights_are_the_same_with_and_without_twenty_subscribers(
    new_loop: Callable[..., Loop], evaluating: bool
) -> None:
    fields: dict[str, Any] = {"gradient_accumulation_steps": 2, "num_train_epochs": 4}
    if evaluating:
        fields |= {"eval_strategy": "steps", "eval_steps": 5, "eval_on_start": True}
    alone = new_loop("alone")
    alone.in_evaluation = lambda loop: draw()
    alone.train(**fields)
    watched = new_loop("watched")
    watched.in_evaluation = lambda loop: draw()
    bus = EventBus(policies={"log": VotePolicy(rule="quorum", count=1, voters=("loop 1",))})
    for number in range(5):
        subscribe(bus, number)
    watched.train(
        bus=bus,
        callbacks=[DrawsInTheGate, VotesInTheGate, Concurrent, DrawsInTheGate(), Concurrent()],
        evaluate=watched.evaluate,
        **fields,
    )
    assert watched.run.summary is not None
    assert len(watched.run.summary.ledger) >= 20
    # Whether a save is vetoed depends on when the concurrent votes arrive; the weights do not.
    obeyed = ("acted", "vetoed")
    actions = {verdict.action for verdict in watched.verdicts() if verdict.outcome in obeyed}
    assert actions >= {"evaluate", "save"}
    assert watched.losses == alone.losses
    assert watched.weights() == alone.weights()


def test_evaluating_more_often_changes_no_weight(new_loop: Callable[..., Loop]) -> None:
    trained = []
    for every in (2, 5):
        loop = new_loop(f"every {every}")
        loop.in_evaluation = lambda loop: draw()
        trained.append(loop.train(eval_strategy="steps", eval_steps=every).weights())
    assert trained[0] == trained[1]


def test_a_second_run_with_the_same_loader_sees_the_same_order(
    new_loop: Callable[..., Loop],
) -> None:
    first, second = new_loop("first"), new_loop("second")
    second.loader = first.loader
    first.train()
    assert first.loader.generator is None
    assert first.loader.sampler.generator is None
    torch.manual_seed(1)
    torch.randn(24, 8)
    second.train()
    third = new_loop("third").train()
    assert second.losses[:1] != []
    assert third.weights() == first.weights()


def test_the_modules_are_in_the_mode_they_were_in_before_an_evaluation(loop: Loop) -> None:
    loop.model[0].eval()
    loop.train(eval_strategy="steps", eval_steps=3)
    assert [module.training for module in loop.model] == [False, True, True]
