"""Evaluations, predictions and logs outside of training are part of the same run."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from stepbus import EventBus, TensorBoardCallback, Trainer, TrainerCallback

if TYPE_CHECKING:
    from tests.engine.trainer.conftest import Watcher

from tests.engine.trainer import conftest

Make = Callable[..., Trainer]


def watched(make_trainer: Make, **fields: Any) -> tuple[Trainer, Watcher]:
    watcher = conftest.Watcher()
    given = {"eval_dataset": conftest.samples(8, seed=2), "callbacks": [watcher]}
    return make_trainer(given=given, **fields), watcher


def test_what_comes_before_and_after_a_training_has_its_run_and_one_numbering(
    make_trainer: Make,
) -> None:
    trainer, watcher = watched(make_trainer)
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    trainer.predict(conftest.samples(4))
    trainer.log({"extra": 1.0})
    assert len({(event.run_id, event.attempt) for event in watcher.events}) == 1
    assert [event.seq for event in watcher.events] == list(range(len(watcher.events)))
    assert watcher.names().count("evaluate") == 2
    assert watcher.names().count("predict") == 1
    assert watcher.events[-1].name == "log"


def test_a_second_training_is_a_new_run(make_trainer: Make) -> None:
    trainer, watcher = watched(make_trainer)
    trainer.train()
    trainer.train()
    ends = watcher.of("train_end")
    assert len(ends) == 2
    assert ends[0].run_id != ends[1].run_id
    assert [end.step for end in ends] == [12, 12]


def test_a_with_block_opens_a_subscriber_once_for_all_calls(make_trainer: Make) -> None:
    class Counting(conftest.Watcher):
        opened = closed = 0

        def open(self) -> None:
            self.opened += 1

        def close(self) -> None:
            self.closed += 1

    counting = Counting()
    given = {"eval_dataset": conftest.samples(8), "callbacks": [counting]}
    trainer = make_trainer(given=given)
    with trainer:
        trainer.evaluate()
        trainer.train()
        trainer.evaluate()
        assert (counting.opened, counting.closed) == (1, 0)
    assert (counting.opened, counting.closed) == (1, 1)
    assert counting.names().count("evaluate") == 2


def test_nothing_is_left_running_after_any_call(make_trainer: Make) -> None:
    before = threading.active_count()
    trainer, _ = watched(make_trainer)
    trainer.evaluate()
    trainer.train()
    trainer.predict(conftest.samples(4))
    assert threading.active_count() == before
    assert not trainer.bus.running


def test_the_bus_of_a_trainer_takes_subscribers_before_the_training(make_trainer: Make) -> None:
    trainer, _ = watched(make_trainer)
    steps: list[int] = []
    trainer.bus.subscribe("step_end")(lambda event: steps.append(event.step))
    trainer.train()
    assert steps == list(range(1, 13))


def test_a_log_from_within_is_a_row_of_its_own_and_tensors_join_the_next(
    make_trainer: Make,
) -> None:
    class Logging(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **keywords: Any) -> Any:
            if self.state.global_step == 1:
                self.log({"plain": 3.0})
            self.log({"tensor": torch.tensor(float(self.state.global_step))})
            return super().compute_loss(model, inputs, *given, **keywords)

    trainer = make_trainer(
        trainer_class=Logging, logging_strategy="steps", logging_steps=3, num_train_epochs=1
    )
    trainer.train()
    rows = trainer.state.log_history
    assert [row["step"] for row in rows if "plain" in row] == [1]
    assert [(row["step"], row["tensor"]) for row in rows if "tensor" in row] == [(3, 1.0), (6, 4.0)]


def test_set_up_is_announced_to_callbacks_once_and_its_votes_wait_for_the_run(
    make_trainer: Make,
) -> None:
    class Asks(TrainerCallback):
        calls = 0

        def on_init_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            self.calls += 1
            assert keywords["model"] is not None
            control.should_save = True

    asks, watcher = Asks(), conftest.Watcher()
    trainer = make_trainer(given={"callbacks": [asks, watcher]})
    assert asks.calls == 1
    trainer.train()
    assert asks.calls == 1
    assert [event.step for event in watcher.of("save")] == [1]
    assert [vote.voter for vote in watcher.of("verdict")[0].votes] == ["Asks"]


def test_a_stop_never_latches(make_trainer: Make) -> None:
    class Stops(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            control.should_training_stop = state.global_step == self.at

        at = 3

    stops = Stops()
    trainer = make_trainer(given={"callbacks": [stops]})
    assert trainer.train().global_step == 3
    assert trainer.control.should_training_stop
    stops.at = 0
    assert trainer.train().global_step == 12
    trainer.control.should_training_stop = False


def test_votes_cast_before_the_training_wait_for_it(make_trainer: Make) -> None:
    trainer, watcher = watched(make_trainer)
    trainer.bus.vote("stop", reason="no time", voter="ann")
    assert trainer.train().global_step == 1
    (verdict,) = watcher.of("verdict")
    assert [(vote.voter, vote.reason) for vote in verdict.votes] == [("ann", "no time")]


@pytest.mark.parametrize("where", ["forward", "compute_metrics"])
def test_an_error_is_the_callers_and_leaves_a_trainer_that_can_be_used(
    make_trainer: Make, where: str
) -> None:
    class Breaks(conftest.Regression):
        broken = True

        def forward(self, x: Any, labels: Any = None) -> Any:
            if where == "forward" and self.broken:
                raise LookupError("broken model")
            return super().forward(x, labels)

    def metrics(prediction: Any) -> dict[str, float]:
        if model.broken:
            raise LookupError("broken metrics")
        return {"accuracy": 1.0}

    model = Breaks()
    given = {"eval_dataset": conftest.samples(8), "compute_metrics": metrics}
    trainer = make_trainer(model=model, given=given, eval_strategy="epoch")
    with pytest.raises(LookupError, match="broken"):
        trainer.train()
    assert not trainer.is_in_train
    model.broken = False
    assert trainer.train().global_step == 12


def test_a_trainer_that_nobody_holds_is_freed_at_once(make_trainer: Make) -> None:
    trainer, _ = watched(make_trainer)
    trainer.train()
    trainer.evaluate()
    model = weakref.ref(trainer.model)
    gc.collect()
    gc.disable()
    try:
        del trainer
        assert model() is None
    finally:
        gc.enable()


def test_a_vote_for_a_training_is_not_spent_by_an_evaluation_before_it(make_trainer: Make) -> None:
    trainer, watcher = watched(make_trainer)
    trainer.bus.vote("stop", voter="ann")
    trainer.control.should_save = True
    trainer.evaluate()
    assert trainer.train().global_step == 1
    assert [event.step for event in watcher.of("save")] == [1]


def test_two_trainers_share_a_bus_in_two_threads(make_trainer: Make) -> None:
    bus = EventBus()
    ended: list[int] = []
    bus.subscribe("train_end")(lambda event: ended.append(event.step))
    inside, release = threading.Event(), threading.Event()

    class Waits(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            if state.global_step == 2:
                inside.set()
                assert release.wait(30)

    long = make_trainer(folder="long", given={"callbacks": [Waits()], "bus": bus})
    short = make_trainer(folder="short", given={"bus": bus}, max_steps=1)
    thread = threading.Thread(target=long.train)
    thread.start()
    assert inside.wait(30)
    short.train()
    release.set()
    thread.join(30)
    assert ended == [1, 12]
    assert not bus.running


def test_tensorboard_has_evaluations_before_after_and_without_a_training(
    make_trainer: Make, tmp_path: Path
) -> None:
    given = {"eval_dataset": conftest.samples(8), "callbacks": [TensorBoardCallback]}
    trainer = make_trainer(given=given)
    trainer.evaluate()
    trainer.train()
    trainer.evaluate()
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    board = EventAccumulator(str(folder))
    board.Reload()
    assert [(point.step) for point in board.Scalars("eval/loss")] == [0, 12]
    assert [(point.step) for point in board.Scalars("train/train_loss")] == [12]
