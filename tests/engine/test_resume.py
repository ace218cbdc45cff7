"""Resuming: what comes back, and what the rest of the run is like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.utils.data import DataLoader

from stepbus import (
    CheckpointError,
    DataError,
    EarlyStoppingCallback,
    StepbusError,
    Subscriber,
    TrainerCallback,
    TrainingRun,
    Vote,
)

if TYPE_CHECKING:
    from tests.engine.conftest import Loop


pytestmark = pytest.mark.slow


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


class Counts(TrainerCallback, Counter):
    def on_step_end(self, *args: Any, **keywords: Any) -> None:
        self.count += 1


class CountsConcurrently(Subscriber, Counter):
    def on_step_end(self, event: Any) -> None:
        self.count += 1


def at(*places: tuple[str, int]) -> Callable[[Any], Vote | None]:
    return lambda event: Vote("save") if (event.name, event.step) in places else None


class SavesAt(Subscriber):
    delivery = "gate"

    def __init__(self, *places: tuple[str, int]) -> None:
        self._vote = at(*places)

    def on_step_end(self, event: Any) -> Vote | None:
        return self._vote(event)

    def on_epoch_end(self, event: Any) -> Vote | None:
        return self._vote(event)


def resume(loop: Loop, step: int, **fields: Any) -> Loop:
    return loop.train(resume_from_checkpoint=f"{loop.output_dir}/checkpoint-{step}", **fields)


@pytest.mark.parametrize(
    "place", [("step_end", 2), ("step_end", 3), ("epoch_end", 3), ("step_end", 6), ("epoch_end", 6)]
)
def test_a_resumed_run_goes_on_as_the_unbroken_one(
    new_loop: Callable[..., Loop], place: tuple[str, int]
) -> None:
    fields: dict[str, Any] = {
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 3,
        "logging_strategy": "steps",
        "logging_steps": 2,
        "eval_strategy": "epoch",
    }
    unbroken = new_loop().train(callbacks=[SavesAt(place)], **fields)
    assert unbroken.saved_steps() == [place[1]]
    resumed = resume(new_loop(), place[1], **fields)
    step = place[1]
    assert resumed.losses == unbroken.losses[step:]
    assert resumed.weights() == unbroken.weights()
    # The event of the epoch's end comes again unless it was over when the checkpoint was written.
    events = [(e.name, e.step) for e in unbroken.recorder.events if e.name != "verdict"]
    first = events.index(("save", step)) + 1
    later = [(e.name, e.step) for e in resumed.recorder.events]
    assert later[0] == ("init_end", step)
    ends = [e for e in later if e[0] in ("step_end", "epoch_end", "log", "evaluate")]
    wanted = [e for e in events[first:] if e[0] in ("step_end", "epoch_end", "log", "evaluate")]
    assert ends == wanted

    def losses(loop: Loop) -> list[float]:
        return [row["loss"] for row in loop.run.state.log_history if "loss" in row]

    assert losses(resumed) == losses(unbroken)
    begin = resumed.recorder.of("train_begin")[0]
    assert begin.resumed_from == f"{resumed.output_dir}/checkpoint-{step}"
    assert (resumed.run.run_id, resumed.run.attempt) == (unbroken.run.run_id, 2)


def test_a_stop_by_vote_then_a_resume_trains_what_the_epoch_had_left(
    new_loop: Callable[..., Loop],
) -> None:
    unbroken = new_loop("unbroken").train()
    stopped = new_loop()
    stopped.in_step = lambda loop: loop.steps_done == 3 and loop.run.vote("stop")
    stopped.train(save_strategy="epoch")
    assert (stopped.steps_done, stopped.saved_steps()) == (4, [4])
    resumed = new_loop().train(resume_from_checkpoint=True, save_strategy="epoch")
    assert stopped.losses + resumed.losses == unbroken.losses
    assert resumed.weights() == unbroken.weights()


def test_a_vote_to_leave_the_epoch_is_kept_by_the_checkpoint_of_its_step(
    new_loop: Callable[..., Loop],
) -> None:
    class Leaves(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            control.should_epoch_stop = control.should_save = state.global_step == 4

    unbroken = new_loop().train(callbacks=[Leaves])
    assert unbroken.steps_done == 10
    resumed = resume(new_loop(), 4)
    assert resumed.losses == unbroken.losses[4:]
    assert resumed.weights() == unbroken.weights()


def test_a_finished_run_can_be_resumed_and_trained_longer(new_loop: Callable[..., Loop]) -> None:
    longer = new_loop("longer").train(num_train_epochs=3)
    new_loop().train(save_strategy="epoch")
    again = new_loop().train(resume_from_checkpoint=True, save_strategy="epoch")
    assert (again.losses, again.steps_done) == ([], 12)
    assert again.recorder.names()[-1] == "train_end"
    resumed = resume(new_loop(), 12, num_train_epochs=3)
    assert resumed.losses == longer.losses[12:]
    assert resumed.weights() == longer.weights()


def test_a_users_generator_and_sampler_go_on_where_they_were(
    new_loop: Callable[..., Loop],
) -> None:
    def make(name: str = "out") -> Loop:
        loop = new_loop(name)
        own = torch.Generator().manual_seed(3)
        loop.loader = DataLoader(loop.samples, 4, shuffle=True, generator=own)  # type: ignore[arg-type]
        return loop

    unbroken = make().train(callbacks=[SavesAt(("step_end", 8))], num_train_epochs=3)
    resumed = resume(make(), 8, num_train_epochs=3)
    assert resumed.losses == unbroken.losses[8:]


def test_what_was_attached_and_callbacks_get_their_state_back(
    new_loop: Callable[..., Loop],
) -> None:
    first = Counter()
    first.count = 7
    new_loop().train(
        save_strategy="epoch",
        attach={"ema": first},
        callbacks=[Counts(), Counts, CountsConcurrently],
    )
    again, counts = Counter(), [Counts(), Counts()]
    concurrent = CountsConcurrently()
    resume(new_loop(), 6, attach={"ema": again}, callbacks=[*counts, concurrent])
    assert again.count == 7
    assert [callback.count for callback in counts] == [12, 12]
    # A concurrent subscriber stored what it had counted by then.
    assert 6 <= concurrent.count <= 12


def test_what_is_attached_before_the_block_is_restored_too(new_loop: Callable[..., Loop]) -> None:
    kept, late = Counter(), Counter()
    kept.count = 5
    new_loop().train(save_strategy="epoch", attach={"kept": kept})
    loop, again = new_loop(), Counter()
    run = TrainingRun(
        loop.arguments(resume_from_checkpoint=True),
        model=loop.model,
        optimizer=loop.optimizer,
        lr_scheduler=loop.scheduler,
    )
    run.attach("kept", again)
    with run:
        assert again.count == 5
        with pytest.raises(CheckpointError, match="holds no state of 'late'"):
            run.attach("late", late)
        for _ in run.steps(loop.loader):
            with pytest.raises(StepbusError, match="loop of a resumed run began"):
                run.attach("later", late)
            break


def test_resume_takes_the_last_checkpoint_of_the_run_that_was_last_at_work(
    new_loop: Callable[..., Loop],
) -> None:
    old = new_loop().train(save_strategy="epoch")
    started_anew = new_loop()
    started_anew.in_step = lambda loop: loop.steps_done == 3 and loop.run.vote("stop")
    started_anew.train(save_strategy="steps", save_steps=2, save_total_limit=1)
    # Its own stay although those of the run before have higher steps.
    assert started_anew.saved_steps() == [2, 4]
    assert (started_anew.output_dir / "checkpoint-4").is_dir()
    resumed = new_loop().train(resume_from_checkpoint=True)
    assert resumed.run.run_id == started_anew.run.run_id != old.run.run_id
    assert resumed.recorder.of("train_begin")[0].resumed_from.endswith("checkpoint-4")
    third = new_loop()
    third.in_step = lambda loop: loop.run.vote("stop")
    third.train()
    with pytest.raises(CheckpointError, match="has no checkpoint; checkpoint-12 is of an earlier"):
        new_loop().train(resume_from_checkpoint=True)


def test_shorter_data_is_one_clear_error_before_the_first_step(
    new_loop: Callable[..., Loop],
) -> None:
    new_loop().train(callbacks=[SavesAt(("step_end", 5))])
    loop = new_loop()
    del loop.samples[8:]
    with pytest.raises(DataError, match=r"after 5 micro-batches of this epoch, .* now has 2"):
        resume(loop, 5)
    assert loop.losses == []
    loop = new_loop()
    del loop.samples[8:]
    assert resume(loop, 5, max_steps=7, ignore_data_skip=True).steps_done == 7


def test_early_stopping_goes_on_counting_after_a_resume(new_loop: Callable[..., Loop]) -> None:
    fields: dict[str, Any] = {
        "num_train_epochs": 9,
        "metric_for_best_model": "loss",
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
    }
    losses = [3.0, 2.0, 2.5, 2.4, 1.0, 0.5, 0.4]

    def train(loop: Loop, given: list[float], **more: Any) -> Loop:
        rest = iter(given)
        callbacks = [EarlyStoppingCallback(early_stopping_patience=2)]
        return loop.train(
            evaluate=lambda: {"loss": next(rest)}, callbacks=callbacks, **fields, **more
        )

    unbroken = train(new_loop(), losses)
    assert unbroken.steps_done == 24
    (end,) = unbroken.recorder.of("train_end")
    assert (end.status, end.stopped_by) == ("stopped", "EarlyStoppingCallback")
    assert "has not improved" in end.reason
    resumed = train(
        new_loop(), losses[3:], resume_from_checkpoint=f"{unbroken.output_dir}/checkpoint-18"
    )
    assert resumed.steps_done == 24


def test_the_run_file_names_run_and_attempt(loop: Loop) -> None:
    loop.train(save_strategy="epoch")
    for path in (loop.output_dir, loop.output_dir / "checkpoint-6"):
        found = json.loads((Path(path) / "run.json").read_text())
        assert found == {"run_id": loop.run.run_id, "attempt": 1}
