"""A subscriber that watches the model gets histograms of it; the weights do not notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch

from stepbus import Histogram, Subscriber

if TYPE_CHECKING:
    from tests.engine.conftest import Loop

STEPS = 201


class Watcher(Subscriber):
    """Says what it wants, and keeps what it gets."""

    def __init__(self, watches: str = "") -> None:
        self.watches = watches
        self.seen: list[Histogram] = []

    def on_histogram(self, event: Histogram) -> None:
        self.seen.append(event)


def tags(watcher: Watcher, step: int) -> list[str]:
    return sorted(event.tag for event in watcher.seen if event.step == step)


@pytest.mark.parametrize("watches", ["gradients", "parameters", "all"])
def test_every_hundredth_step_has_them(watches: str, new_loop: Callable[..., Loop]) -> None:
    watched = new_loop("watched")
    watcher = Watcher(watches)
    watched.train(callbacks=[watcher], max_steps=STEPS, logging_steps=10)
    names = [name for name, _ in watched.model.named_parameters()]
    kinds = ["gradients", "parameters"] if watches == "all" else [watches]
    expected = sorted(f"{kind}/{name}" for kind in kinds for name in names)
    assert {event.step for event in watcher.seen} == {100, 200}
    assert tags(watcher, 100) == tags(watcher, 200) == expected
    sizes = {name: parameter.numel() for name, parameter in watched.model.named_parameters()}
    for event in watcher.seen:
        assert sum(event.counts) == event.num == sizes[event.tag.partition("/")[2]]
    plain = new_loop("plain")  # Making one seeds.
    plain.train(callbacks=[Watcher()], max_steps=STEPS, logging_steps=10)
    assert watched.weights() == plain.weights()


def test_gradients_are_those_that_the_optimizer_steps_with(new_loop: Callable[..., Loop]) -> None:
    loop = new_loop()
    found: dict[str, tuple[float, float]] = {}

    def spy(*_: object) -> None:
        if loop.steps_done == 99:
            for name, parameter in loop.model.named_parameters():
                assert parameter.grad is not None
                found[name] = (parameter.grad.min().item(), parameter.grad.max().item())

    loop.optimizer.register_step_pre_hook(spy)
    watcher = Watcher("gradients")
    loop.train(callbacks=[watcher], max_steps=100, logging_steps=10)
    assert {
        event.tag.removeprefix("gradients/"): (event.min, event.max) for event in watcher.seen
    } == {name: pytest.approx(pair) for name, pair in found.items()}


def test_the_optimizer_of_another_model_is_none_of_its_business(
    new_loop: Callable[..., Loop],
) -> None:
    loop = new_loop()
    other = torch.nn.Linear(2, 2)
    others = torch.optim.SGD(other.parameters(), lr=0.1)
    watcher = Watcher("parameters")

    def step_other(loop: Loop) -> None:
        others.step()

    loop.in_step = step_other
    loop.train(callbacks=[watcher], max_steps=100, logging_steps=10)
    assert len(watcher.seen) == len(list(loop.model.named_parameters()))
    # Once the run is over nothing of it is left behind.
    for _ in range(2):
        loop.optimizer.step()
    assert len(watcher.seen) == len(list(loop.model.named_parameters()))
