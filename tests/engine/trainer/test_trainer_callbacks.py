"""Callbacks of a Trainer: added, removed, stateful, the reference's own, and their votes."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from stepbus import (
    DefaultFlowCallback,
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
)
from stepbus.schemas.control import FLAG_OF
from stepbus.schemas.errors import ArgumentError
from tests.engine.trainer.conftest import Regression, Watcher, samples, weights

Make = Callable[..., Trainer]


class Plain(TrainerCallback):
    """Counts steps."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        self.steps += 1


def kinds(trainer: Trainer) -> list[str]:
    return [type(callback).__name__ for callback in trainer.callback_handler.callbacks]


def test_the_order_is_schedule_own_callbacks_display(make_trainer: Make) -> None:
    assert kinds(make_trainer(given={"callbacks": [Plain]})) == [
        "DefaultFlowCallback",
        "Plain",
        "PrinterCallback",
    ]
    assert kinds(make_trainer(disable_tqdm=False))[-1] == "ProgressCallback"


def test_callbacks_are_added_popped_and_removed_as_in_the_reference(make_trainer: Make) -> None:
    trainer = make_trainer()
    trainer.add_callback(Plain)
    own = Plain()
    trainer.add_callback(own)
    assert trainer.pop_callback(own) is own
    assert isinstance(trainer.pop_callback(Plain), Plain)
    assert trainer.pop_callback(Plain) is None
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    assert kinds(trainer) == ["DefaultFlowCallback"]
    with pytest.raises(ArgumentError, match="not among the callbacks"):
        trainer.remove_callback(own)


def test_a_second_one_of_a_class_is_added_with_a_warning(
    make_trainer: Make, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(given={"callbacks": [Plain()]})
    with caplog.at_level(logging.WARNING):
        trainer.add_callback(Plain())
    assert "a Plain is added where there is one already" in caplog.text
    assert kinds(trainer).count("Plain") == 2


def test_without_the_schedule_a_run_ends_with_its_epochs(make_trainer: Make) -> None:
    trainer = make_trainer(logging_strategy="steps", logging_steps=1)
    trainer.remove_callback(DefaultFlowCallback)
    assert trainer.train().global_step == 12
    assert [next(iter(row)) for row in trainer.state.log_history] == ["train_runtime"]


def test_one_that_joins_and_one_that_leaves_in_mid_run(make_trainer: Make) -> None:
    late, watcher, leaves = Plain(), Watcher(), Plain()

    class Changes(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            if state.global_step == 4:
                trainer.add_callback(late)
                trainer.add_callback(watcher)
                trainer.remove_callback(leaves)

    trainer = make_trainer(given={"callbacks": [leaves, Changes()]})
    trainer.train()
    assert late.steps == 8
    assert leaves.steps == 4
    assert [event.step for event in watcher.of("step_end")] == list(range(5, 13))


def test_callbacks_see_live_references_and_numbers(make_trainer: Make) -> None:
    seen: dict[str, Any] = {}

    class Looks(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            seen.update(keywords, args=args, state=state, control=control)

    trainer = make_trainer(
        given={"callbacks": [Looks()]}, logging_strategy="steps", logging_steps=1
    )
    trainer.train()
    assert seen["args"] is trainer.args
    assert seen["state"] is trainer.state
    assert seen["model"] is trainer.model
    assert seen["optimizer"] is trainer.optimizer
    assert seen["lr_scheduler"] is trainer.lr_scheduler
    assert seen["train_dataloader"] is not None
    assert all(type(value) in (float, int) for value in seen["logs"].values())
    assert trainer.state.log_history[-1]["train_loss"] == seen["logs"]["train_loss"]


def test_the_references_own_callbacks_run_unmodified(make_trainer: Make, capsys: Any) -> None:
    given = {
        "eval_dataset": samples(8),
        "callbacks": [
            transformers.EarlyStoppingCallback(early_stopping_patience=1),
            transformers.PrinterCallback(),
            transformers.ProgressCallback,
        ],
    }
    trainer = make_trainer(
        given=given,
        eval_strategy="steps",
        eval_steps=2,
        metric_for_best_model="loss",
        learning_rate=0.0,
        load_best_model_at_end=True,
        save_strategy="steps",
        save_steps=2,
        logging_strategy="steps",
        logging_steps=2,
    )
    assert trainer.train().global_step == 4
    assert "'eval_loss'" in capsys.readouterr().out


class Counter(TrainerCallback):
    """A callback of the reference's `ExportableState` shape."""

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.count = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        self.count += 1 if self.name == "a" else 10

    def state(self) -> dict[str, Any]:
        return {"args": {"name": self.name}, "attributes": {"count": self.count}}


def test_stateful_callbacks_come_back_as_the_same_instances_in_their_places(
    make_trainer: Make, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"save_strategy": "steps", "save_steps": 8}
    make_trainer(given={"callbacks": [Counter("a"), Counter("b")]}, **fields).train()
    checkpoint = tmp_path / "out" / "checkpoint-8"
    saved = json.loads((checkpoint / "trainer_state.json").read_text())["stateful_callbacks"]
    assert [state["attributes"]["count"] for state in saved["Counter"]] == [8, 80]
    assert saved["TrainerControl"]["args"]["should_save"] is True
    first, second = Counter("a"), Counter("b")
    trainer = make_trainer(given={"callbacks": [first, second]}, **fields)
    before = list(trainer.callback_handler.callbacks)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert (first.count, second.count) == (12, 120)
    assert trainer.callback_handler.callbacks == before


def test_early_stopping_counts_on_after_a_resume(make_trainer: Make, tmp_path: Path) -> None:
    def train(resume: Any = None) -> int:
        trainer = make_trainer(
            given={"callbacks": [EarlyStoppingCallback(3)]},
            eval_strategy="steps",
            eval_steps=2,
            save_strategy="steps",
            save_steps=2,
            metric_for_best_model="loss",
            load_best_model_at_end=True,
            learning_rate=0.0,
        )
        return trainer.train(resume_from_checkpoint=resume).global_step

    assert train() == 8
    assert train(str(tmp_path / "out" / "checkpoint-4")) == 8


HOOKS = """
    init_end train_begin epoch_begin step_begin substep_end pre_optimizer_step optimizer_step
    step_end log prediction_step evaluate save epoch_end
""".split()


def voter(hook: str, flag: str) -> TrainerCallback:
    """A callback that sets a flag at the first call of a hook."""

    def vote(self: Any, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        if not vars(self).get("voted"):
            self.voted = True
            setattr(control, flag, True)

    kind = type("Voter", (TrainerCallback,), {f"on_{hook}": vote})
    return kind()  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("action", list(FLAG_OF))
@pytest.mark.parametrize("hook", HOOKS)
def test_no_vote_is_lost_wherever_it_is_cast(make_trainer: Make, hook: str, action: str) -> None:
    watcher, chosen = Watcher(), voter(hook, FLAG_OF[action])  # type: ignore[index]
    leftovers: list[bool] = []

    class Gradients(TrainerCallback):
        def on_step_begin(self, *args: Any, **keywords: Any) -> None:
            leftovers.append(any(p.grad is not None for p in keywords["model"].parameters()))

    trainer = make_trainer(
        given={"callbacks": [chosen, Gradients(), watcher]},
        gradient_accumulation_steps=2,
        logging_strategy="steps",
        logging_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
    )
    trainer.train()
    assert vars(chosen).get("voted")
    verdicts = [v for v in watcher.of("verdict") if v.action == action]
    assert [v.outcome for v in verdicts] == ["acted"]
    assert "Voter" in {vote.voter for vote in verdicts[0].votes}
    assert not any(leftovers), "no gradient leaks into a step"


def test_who_listens_changes_no_weight(make_trainer: Make) -> None:
    quiet = make_trainer()
    quiet.train()
    loud = make_trainer(given={"callbacks": [Plain(), Watcher(), Plain()]})
    loud.bus.subscribe("*")(lambda event: None)
    loud.train()
    assert weights(quiet) == weights(loud)


def test_an_evaluation_that_is_voted_for_changes_no_weight(make_trainer: Make) -> None:
    class Asks(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            control.should_evaluate = state.global_step in (3, 5)

    quiet = make_trainer()
    quiet.train()
    given = {"callbacks": [Asks()], "eval_dataset": samples(8)}
    asking = make_trainer(given=given, model=Regression())
    asking.train()
    assert [row["step"] for row in asking.state.log_history if "eval_loss" in row] == [3, 5]
    assert weights(quiet) == weights(asking)
