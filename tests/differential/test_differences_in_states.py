"""Differences on purpose in checkpoints, resumes and the states of callbacks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.differential import differences as table
from tests.differential.case import Case, Session
from tests.differential.conftest import Both
from tests.differential.grouping import covers
from tests.differential.libraries import REFERENCE, STEPBUS, Library


@covers(table.END_OF_AN_EPOCH)
@pytest.mark.parametrize("step", [6, 12])
def test_a_resume_at_the_end_of_an_epoch(both: Both, step: int) -> None:
    def script(session: Session) -> None:
        session.make().train()
        session.calls.clear()
        checkpoint = str(session.folder / f"checkpoint-{step}")
        session.make().train(resume_from_checkpoint=checkpoint)

    arguments = {"save_strategy": "steps", "save_steps": 6, "eval_strategy": "epoch"}
    reference, stepbus = both(Case("resume", arguments, script=script))
    assert reference.steps("epoch_end") == ([12] if step == 6 else [])
    assert stepbus.steps("epoch_end") == ([6, 12] if step == 6 else [12])
    assert [row["step"] for row in stepbus.history if "eval_loss" in row] == [6, 12]
    assert 6 not in [row["step"] for row in reference.history if "eval_loss" in row] or step == 12


@covers(table.LOSS_AFTER_RESUME)
def test_train_loss_after_a_resume(both: Both) -> None:
    def script(session: Session) -> None:
        session.results["whole"] = session.make().train()
        checkpoint = str(session.folder / "checkpoint-4")
        session.results["resumed"] = session.make().train(resume_from_checkpoint=checkpoint)

    case = Case("resume", {"save_strategy": "steps", "save_steps": 4}, script=script)
    reference, stepbus = both(case)
    whole = reference.results["whole"].training_loss
    losses = [row["loss"] for row in reference.history if "loss" in row]
    assert reference.results["resumed"].training_loss == pytest.approx(sum(losses[4:]) / 8)
    assert stepbus.results["resumed"].training_loss == pytest.approx(whole)
    assert stepbus.results["whole"].training_loss == whole


def counting(library: Library, start: int) -> Any:
    """A callback of the reference's exportable shape that counts steps."""

    class Counting(library.TrainerCallback, *_exportable(library)):  # type: ignore[misc,name-defined]
        def __init__(self, start: int = 0) -> None:
            self.start = start
            self.count = start

        def on_step_end(self, *args: Any, **keywords: Any) -> None:
            self.count += 1

        def state(self) -> dict[str, Any]:
            return {"args": {"start": self.start}, "attributes": {"count": self.count}}

    return Counting(start)


def _exportable(library: Library) -> tuple[type, ...]:
    if library is STEPBUS:
        return ()
    return (REFERENCE.trainer_callback.ExportableState,)


def resume_with_counters(*starts: int) -> Callable[[Session], None]:
    """Trains and saves at 4, 8 and 12, then resumes from 8 with other counters of one class."""

    def script(session: Session) -> None:
        for checkpoint in (None, "checkpoint-8"):
            trainer = session.make(restore_callback_states_from_checkpoint=True)
            counters = [counting(session.library, start) for start in starts]
            for counter in counters:
                trainer.add_callback(counter)
            path = None if checkpoint is None else str(session.folder / checkpoint)
            trainer.train(resume_from_checkpoint=path)
            found = [c for c in trainer.callback_handler.callbacks if hasattr(c, "count")]
            session.results["counts"] = [counter.count for counter in found]
            session.results["kept"] = [a is b for a, b in zip(found, counters, strict=False)]

    return script


SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}


@covers(table.CALLBACKS_OF_ONE_CLASS)
def test_several_stateful_callbacks_of_one_class(both: Both) -> None:
    reference, stepbus = both(Case("two", SAVED, script=resume_with_counters(0, 100)))
    assert reference.results["counts"] == [4, 104]
    assert stepbus.results["counts"] == [12, 112]
    states = stepbus.json["checkpoint-12"]["stateful_callbacks"]["Counting"]
    assert [state["attributes"]["count"] for state in states] == [12, 112]


@covers(table.INSTANCES_KEPT)
def test_instances_of_stateful_callbacks(both: Both) -> None:
    reference, stepbus = both(Case("one", SAVED, script=resume_with_counters(0)))
    assert reference.results == {"counts": [12], "kept": [False]}
    assert stepbus.results == {"counts": [12], "kept": [True]}


@covers(table.WEIGHTS_ALONE)
def test_resume_from_weights_alone(both: Both) -> None:
    def script(session: Session) -> None:
        session.make().train()
        checkpoint = str(session.folder / "checkpoint-4")
        session.results["step"] = session.make().train(resume_from_checkpoint=checkpoint)[0]

    reference, stepbus = both(Case("weights", SAVED | {"save_only_model": True}, script=script))
    assert reference.results["step"] == 12
    assert stepbus.error.startswith("CheckpointError: ")
    assert "save_only_model" in stepbus.error
