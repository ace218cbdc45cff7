"""Flags set by callbacks of Hugging Face's shape: the reference loses some, stepbus none.

Four steps of two micro-batches an epoch; log, evaluation and checkpoint at step 3. A vote is cast
once, in one hook, and must act once, at that very step: or, where its step's round has done the
action already, in the next round, and before the first step at the end of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

from stepbus import TrainerCallback
from stepbus.schemas.control import FLAG_OF

if TYPE_CHECKING:
    from tests.engine.conftest import Loop

pytestmark = pytest.mark.slow

SCHEDULE: dict[str, Any] = {
    "num_train_epochs": 2,
    "gradient_accumulation_steps": 2,
    "logging_strategy": "steps",
    "logging_steps": 3,
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "save_steps": 3,
}
SCHEDULED = {"log": [3, 6], "evaluate": [3, 6, 8], "save": [3, 6, 8]}
STEP_HOOKS = ("step_begin", "substep_end", "pre_optimizer_step", "optimizer_step", "step_end")


class Voter(TrainerCallback):
    """Sets one flag at one call of one hook."""

    def __init__(self, hook: str, action: str, call: int = 1) -> None:
        self._left = call
        self._flag = FLAG_OF[action]  # type: ignore[index]
        self.cast_at: int | None = None
        setattr(self, f"on_{hook}", self._vote)

    def _vote(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        self._left -= 1
        if self._left == 0:
            self.cast_at = state.global_step
            setattr(control, self._flag, True)


def voter(hook: str, action: str, call: int = 1) -> Voter:
    """A voter whose class has that hook, as callbacks have."""

    def method(self: Any, *args: Any, **keywords: Any) -> None:
        self._vote(*args, **keywords)

    kind = type("Voter", (Voter,), {f"on_{hook}": method})
    return kind(hook, action, call)  # type: ignore[no-any-return]


class Gradients(TrainerCallback):
    """Notes gradients that are left over when a step begins."""

    def __init__(self) -> None:
        self.left_over = 0
        self.substeps: list[int] = []

    def on_step_begin(self, *args: Any, **keywords: Any) -> None:
        model: torch.nn.Module = keywords["model"]
        self.left_over += any(p.grad is not None for p in model.parameters())
        self.substeps.append(0)

    def on_substep_end(self, *args: Any, **keywords: Any) -> None:
        self.substeps[-1] += 1


def expected_step(hook: str, action: str) -> int:
    if hook in ("train_begin", "epoch_begin"):
        return 1
    if hook in STEP_HOOKS:
        return 2
    if hook == "epoch_end" or action in ("stop", "stop_epoch"):
        return 4 if hook == "epoch_end" else 3
    # In the round of step 3: what comes after the hook's own action acts in it.
    done = {"log": ["log"], "prediction_step": ["log", "evaluate"], "evaluate": ["log", "evaluate"]}
    return 4 if action in done.get(hook, ["log", "evaluate", "save"]) else 3


HOOKS = (
    "train_begin",
    "epoch_begin",
    *STEP_HOOKS,
    "log",
    "prediction_step",
    "evaluate",
    "save",
    "epoch_end",
)


@pytest.mark.parametrize("action", ["log", "evaluate", "save", "stop_epoch", "stop"])
@pytest.mark.parametrize("hook", HOOKS)
def test_no_vote_is_lost_and_each_acts_once(
    new_loop: Callable[..., Loop], hook: str, action: str
) -> None:
    loop = new_loop()
    loop.samples += loop.samples[:8]
    chosen = voter(hook, action, 2 if hook in STEP_HOOKS else 1)
    gradients = Gradients()
    loop.train(callbacks=[chosen, gradients], **SCHEDULE)
    assert chosen.cast_at is not None
    step = expected_step(hook, action)
    verdicts = [v for v in loop.verdicts() if v.action == action]
    assert [(v.outcome, v.acted_at) for v in verdicts] == [("acted", step)]
    assert [v.voter for v in verdicts[0].votes if v.voter != "DefaultFlowCallback"] == ["Voter"]
    assert not gradients.left_over
    assert set(gradients.substeps) == {1}
    check_effect(loop, hook, action, step)


def check_effect(loop: Loop, hook: str, action: str, step: int) -> None:
    done = {
        "log": [
            e.step for e in loop.recorder.of("log") if "loss" in e.logs or "grad_norm" in e.logs
        ],
        "evaluate": [e.step for e in loop.recorder.of("evaluate")],
        "save": loop.saved_steps(),
    }
    if action == "stop":
        assert loop.steps_done == step
        (end,) = loop.recorder.of("train_end")
        assert (end.status, end.stopped_by) == ("stopped", "Voter")
        assert 3 not in done["evaluate"] or hook != "prediction_step"
    elif action == "stop_epoch":
        ends = [event.step for event in loop.recorder.of("epoch_end")]
        assert ends == [step, step + 4]
        assert loop.recorder.of("epoch_begin")[1].epoch == 1.0
    else:
        assert sorted({*SCHEDULED[action], step}) == done[action]


@pytest.mark.parametrize("action", ["log", "evaluate", "save"])
@pytest.mark.parametrize("hook", ["log", "evaluate", "save"])
def test_a_vote_in_the_round_of_the_last_epochs_end_acts_at_the_final_merge(
    loop: Loop, hook: str, action: str
) -> None:
    chosen = voter(hook, action, 4 if hook == "log" else 2)
    by_epoch: dict[str, Any] = dict.fromkeys(
        ("logging_strategy", "eval_strategy", "save_strategy"), "epoch"
    )
    loop.train(callbacks=[chosen], **by_epoch)
    # The second call of on_log in an epoch is that of its evaluation.
    acted_in_round = {"log": ["log", "evaluate"], "evaluate": ["log", "evaluate"]}
    late = action in acted_in_round.get(hook, ["log", "evaluate", "save"])
    (verdict,) = [v for v in loop.verdicts() if v.action == action]
    assert (verdict.outcome, verdict.acted_at) == ("acted", 12)
    assert (verdict.point == "train_end") == late
    names = loop.recorder.names()
    last_save_or_log = len(names) - 1 - names[::-1].index(verdict.action)
    assert last_save_or_log < names.index("train_end")


@pytest.mark.parametrize("action", ["save", "stop"])
def test_a_vote_after_the_final_merge_is_on_record_as_late(loop: Loop, action: str) -> None:
    loop.train(callbacks=[voter("train_end", action)])
    (verdict,) = loop.verdicts()
    assert (verdict.action, verdict.outcome) == (action, "late")
    assert not loop.saved_steps()
    assert loop.recorder.of("train_end")[0].status == "finished"


def test_a_vote_for_the_action_in_each_of_its_own_events_does_not_go_on_for_ever(
    loop: Loop,
) -> None:
    class Insatiable(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            control.should_log = True

    loop.train(callbacks=[Insatiable], logging_strategy="steps", logging_steps=1)
    # One a step, one at each end of an epoch, one at the final merge, and the closing one.
    assert [event.step for event in loop.recorder.of("log")] == [
        *range(1, 7), 6, *range(7, 13), 12, 12, 12
    ]  # fmt: skip
    assert loop.verdicts()[-1].outcome == "late"


def test_a_save_vote_saves_under_save_strategy_best(loop: Loop) -> None:
    losses = iter([1.0, 2.0, 0.5, 3.0])
    loop.train(
        callbacks=[voter("log", "save", 2)],
        evaluate=lambda: {"loss": next(losses)},
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="best",
    )
    # Steps 3 and 9 are the best; step 6 is not, and saved for the vote in its evaluation's log.
    assert loop.saved_steps() == [3, 6, 9]
    (verdict,) = loop.verdicts()
    assert (verdict.action, verdict.acted_at) == ("save", 6)


def test_clearing_undoes_what_was_set_before_in_the_chain(loop: Loop) -> None:
    class Clearing(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            control.should_save = False

    loop.train(callbacks=[voter("step_end", "save", 3), Clearing, voter("step_end", "save", 5)])
    assert loop.saved_steps() == [5]
