"""An optimizer has hooks while somebody listens to its steps, and none at other times."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from stepbus import Event, EventBus, TrainingRun
from stepbus.testing import Recorder

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


def num_hooks(optimizer: Any) -> int:
    return len(optimizer._optimizer_step_pre_hooks) + len(optimizer._optimizer_step_post_hooks)


def run_over(loop: Loop, bus: EventBus) -> TrainingRun:
    return TrainingRun(loop.arguments(), model=loop.model, optimizer=loop.optimizer, bus=bus)


def test_without_a_listener_the_optimizer_has_none(loop: Loop) -> None:
    found = []
    with EventBus() as bus, run_over(loop, bus) as loop.run:
        loop.in_step = lambda loop: found.append(num_hooks(loop.optimizer))
        loop.steps()
    assert set(found) == {0}


def test_who_subscribes_within_a_step_gets_that_step(loop: Loop) -> None:
    taken = Recorder()
    with EventBus() as bus, run_over(loop, bus) as run:
        for _ in run.steps(loop.loader):
            if run.state.global_step == 2:
                bus.subscribe("optimizer_step")(taken)
            loop.optimizer.step()
            run.end_step()
            if run.state.global_step == 5:
                bus.flush()
                bus.unsubscribe(taken)
                assert not num_hooks(loop.optimizer)
    assert [event.step for event in taken.events] == [2, 3, 4]


def test_who_subscribes_from_another_thread_gets_the_steps_that_follow(loop: Loop) -> None:
    taken: list[Event] = []
    with EventBus() as bus, run_over(loop, bus) as run:
        for _ in run.steps(loop.loader):
            if run.state.global_step == 2:
                other = threading.Thread(
                    target=bus.subscribe("optimizer_step"), args=(taken.append,)
                )
                other.start()
                other.join()
            loop.optimizer.step()
            run.end_step()
    assert [event.step for event in taken] == list(range(3, run.state.global_step))


def test_after_the_run_the_optimizer_is_what_it_was(loop: Loop) -> None:
    loop.train()
    assert loop.recorder.names().count("optimizer_step") == loop.run.state.global_step
    assert not num_hooks(loop.optimizer)
