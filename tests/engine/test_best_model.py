"""The best model: which one it is, what is kept of it, what is loaded at the end."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from stepbus import Subscriber
from stepbus.engine.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from tests.engine.conftest import Loop

EVERY_TWO_STEPS: dict[str, Any] = {
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_strategy": "steps",
    "save_steps": 2,
}


def scripted(*losses: float) -> Callable[[], dict[str, float]]:
    rest = iter(losses)
    return lambda: {"loss": next(rest)}


def test_the_best_is_noted_kept_and_loaded_at_the_end(loop: Loop) -> None:
    weights: dict[int, list[bytes]] = {}
    loop.in_step = lambda loop: weights.__setitem__(loop.steps_done + 1, loop.weights())
    loop.train(
        evaluate=scripted(5.0, 3.0, 4.0, math.nan, 3.0, 3.5),
        save_total_limit=2,
        load_best_model_at_end=True,
        **EVERY_TWO_STEPS,
    )
    state = loop.run.state
    assert (state.best_metric, state.best_global_step) == (3.0, 4)
    assert state.best_model_checkpoint == f"{loop.output_dir}/checkpoint-4"
    names = sorted(path.name for path in loop.output_dir.glob("checkpoint-*"))
    assert names == ["checkpoint-12", "checkpoint-4"]
    assert loop.weights() == weights[4] != weights[12]
    assert loop.run.summary is not None
    assert loop.run.summary.best_checkpoint == state.best_model_checkpoint
    assert [e.step for e in loop.recorder.of("save") if e.best] == [2, 4]
    # The state in a checkpoint knows whether it is itself the best.
    saved = (loop.output_dir / "checkpoint-4" / "trainer_state.json").read_text()
    assert '"best_global_step": 4' in saved
    assert "checkpoint-4" in saved


def test_greater_is_better_for_what_is_no_loss(loop: Loop) -> None:
    scores = iter([0.1, 0.5, 0.3])
    loop.train(
        evaluate=lambda: {"accuracy": next(scores)},
        eval_strategy="steps",
        eval_steps=4,
        metric_for_best_model="accuracy",
    )
    state = loop.run.state
    assert (state.best_metric, state.best_global_step) == (0.5, 8)
    assert state.best_model_checkpoint is None


def test_save_strategy_best_saves_what_improved(loop: Loop) -> None:
    loop.train(
        evaluate=scripted(5.0, 6.0, 4.0, 4.0, 3.0, 9.0),
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="best",
        load_best_model_at_end=True,
    )
    assert loop.saved_steps() == [2, 6, 10]
    assert not loop.verdicts()
    assert loop.run.state.best_global_step == 10


def test_a_checkpoint_of_the_step_that_was_written_before_counts_as_the_best(loop: Loop) -> None:
    loop.train(
        evaluate=scripted(1.0, 2.0),
        eval_strategy="epoch",
        save_strategy="steps",
        save_steps=6,
        metric_for_best_model="loss",
    )
    assert loop.run.state.best_model_checkpoint == f"{loop.output_dir}/checkpoint-6"


def test_the_best_survives_a_resume(new_loop: Callable[..., Loop]) -> None:
    fields = EVERY_TWO_STEPS | {"load_best_model_at_end": True, "save_total_limit": 1}
    first = new_loop()
    first.in_step = lambda loop: loop.steps_done == 5 and loop.run.vote("stop")
    first.train(evaluate=scripted(5.0, 2.0, 4.0), **fields)
    resumed = new_loop().train(
        evaluate=scripted(3.0, 3.0, 3.0), resume_from_checkpoint=True, **fields
    )
    assert resumed.run.state.best_global_step == 4
    folder = f"{resumed.output_dir}/checkpoint-4"
    again = new_loop("again")
    read_checkpoint(folder).load_weights(again.model)
    assert resumed.weights() == again.weights()


def test_rotation_waits_for_those_who_read_a_checkpoint(loop: Loop) -> None:
    release, reading = threading.Event(), threading.Event()
    found: list[bool] = []

    class Uploads(Subscriber):
        def on_save(self, event: Any) -> None:
            if event.step == 2:
                reading.set()
                release.wait(60)
            found.append((loop.output_dir / f"checkpoint-{event.step}").is_dir())

    def look(loop: Loop) -> None:
        if loop.steps_done == 3:
            assert reading.wait(60)
        if loop.steps_done == 11:
            names = sorted(path.name for path in loop.output_dir.glob("checkpoint-*"))
            assert "checkpoint-2" in names
            release.set()

    loop.in_step = look
    try:
        loop.train(callbacks=[Uploads], save_strategy="steps", save_steps=2, save_total_limit=1)
    finally:
        release.set()
    # Every one was still there when its handler came to it, and only the last is left at the end.
    assert found == [True] * 6
    assert [path.name for path in loop.output_dir.glob("checkpoint-*")] == ["checkpoint-12"]


def test_a_checkpoint_saved_every_step_is_never_gone_before_its_readers_hold_it(
    loop: Loop,
) -> None:
    found: list[bool] = []

    class Reads(Subscriber):
        def on_save(self, event: Any) -> None:
            found.append((loop.output_dir / f"checkpoint-{event.step}").is_dir())

    loop.train(callbacks=[Reads], save_strategy="steps", save_steps=1, save_total_limit=1)
    assert found == [True] * 12


@pytest.mark.parametrize("strategy", ["steps", "epoch"])
def test_without_a_checkpoint_of_the_best_nothing_is_loaded(loop: Loop, strategy: str) -> None:
    loop.train(
        evaluate=lambda: {"loss": math.nan},
        eval_strategy=strategy,
        save_strategy=strategy,
        eval_steps=4,
        save_steps=4,
        load_best_model_at_end=True,
    )
    assert loop.run.state.best_model_checkpoint is None
