"""What is called, and how often: evaluations around a training, trainings in a row, a resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.differential.case import Case, Outcome, Session
from tests.differential.data import rows, sets
from tests.differential.differences import LOSS_AFTER_RESUME
from tests.differential.grouping import each
from tests.differential.libraries import Library
from tests.differential.models import LossKeywords, Normalised, Regression

SAVED: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}
EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4}


def around(session: Session) -> None:
    trainer = session.make()
    session.results["evaluate before"] = trainer.evaluate()
    session.results["predict before"] = trainer.predict(rows(6, 4))
    session.results["train"] = trainer.train()
    session.results["evaluate"] = trainer.evaluate()
    session.results["predict"] = trainer.predict(rows(6, 4))
    session.results["evaluate others"] = trainer.evaluate(rows(5, 8), metric_key_prefix="other")


def twice(session: Session) -> None:
    trainer = session.make()
    session.results["train"] = trainer.train()
    session.results["again"] = trainer.train()


def twice_with_an_evaluation(session: Session) -> None:
    trainer = session.make()
    session.results["train"] = trainer.train()
    session.results["evaluate"] = trainer.evaluate()
    session.results["again"] = trainer.train()


def two_trainers(session: Session) -> None:
    session.results["train"] = session.make().train()
    session.results["other"] = session.make(seed=9).train()


def callbacks_changed(session: Session) -> None:
    trainer = session.make()
    library = session.library
    early = library.EarlyStoppingCallback(1)
    trainer.add_callback(early)
    session.results["popped"] = trainer.pop_callback(early) is early
    session.results["missing"] = trainer.pop_callback(library.EarlyStoppingCallback)
    trainer.remove_callback(library.DefaultFlowCallback)
    session.results["train"] = trainer.train()
    session.results["names"] = sorted(
        type(callback).__name__
        for callback in trainer.callback_handler.callbacks
        if type(callback).__name__ == "Recorder"
    )


def figures(session: Session) -> None:
    trainer = session.make()
    session.results["train"] = trainer.train()
    session.results["rates"] = trainer.get_learning_rates()
    session.results["parameters"] = trainer.get_num_trainable_parameters()
    loader = trainer.get_train_dataloader()
    session.results["examples"] = trainer.num_examples(loader), len(loader)
    loader = trainer.get_eval_dataloader()
    session.results["batches"] = [dict(batch) for batch in loader]
    session.results["test batches"] = [len(b["x"]) for b in trainer.get_test_dataloader(rows(9))]
    session.results["zero"] = trainer.is_world_process_zero(), trainer.is_local_process_zero()


def metric_files(session: Session) -> None:
    trainer = session.make()
    result = trainer.train()
    trainer.save_state()
    trainer.save_model()
    metrics = {"train_loss": result.training_loss, "epoch": 2.0, "train_runtime": 3.25}
    trainer.log_metrics("train", metrics)
    trainer.save_metrics("train", metrics)
    trainer.save_metrics("eval", {"eval_loss": 0.5})
    for name in ("train_results.json", "eval_results.json", "all_results.json"):
        session.results[name] = (session.folder / name).read_text()
    session.results["state"] = "global_step" in (session.folder / "trainer_state.json").read_text()
    names = {path.name for path in session.folder.iterdir() if path.is_file()}
    session.results["files"] = sorted(names & {"model.safetensors", "trainer_state.json"})


def logs_between(session: Session) -> None:
    trainer = session.make()
    trainer.log({"before": 1.0})
    session.results["train"] = trainer.train()
    trainer.log({"after": 2.0})


CASES = [
    Case("evaluate and predict around", script=around, quick=True),
    Case(
        "evaluate and predict around, evaluations in between",
        EVALUATED,
        script=around,
    ),
    Case(
        "evaluate and predict around, two sets",
        eval=sets(a=5, b=6),
        script=around,
    ),
    Case(
        "evaluate and predict around, batch norm",
        {},
        Normalised,
        script=around,
    ),
    Case("train twice", script=twice, quick=True),
    Case("train twice, evaluated and saved", EVALUATED | SAVED, script=twice),
    Case("train twice, accumulation 4", {"gradient_accumulation_steps": 4}, script=twice),
    Case(
        "train twice, an evaluation between",
        EVALUATED,
        script=twice_with_an_evaluation,
    ),
    Case("two trainers in one folder", SAVED, script=two_trainers),
    Case("callbacks changed", {"max_steps": 8}, script=callbacks_changed),
    Case("figures", script=figures),
    Case("metric files", script=metric_files),
    Case("logs outside of training", script=logs_between),
]


def initialised(library: Library) -> dict[str, Any]:
    return {"model_init": lambda: Regression(0.2)}


INITIALISED = [
    Case("model_init", EVALUATED, trainer=initialised, quick=True),
    Case("model_init, other seed", {"seed": 3}, trainer=initialised),
    Case("model_init, train twice", trainer=initialised, script=twice),
    Case("model_init, around", trainer=initialised, script=around),
]


def resuming(step: int, **changed: Any) -> Callable[[Session], None]:
    """Trains to the end, then again from a checkpoint with a fresh trainer."""

    def script(session: Session) -> None:
        session.make().train()
        whole = [p.detach().clone() for p in session.trainer.model.parameters()]
        trainer = session.make(**changed)
        checkpoint = str(session.folder / f"checkpoint-{step}")
        session.results["train"] = trainer.train(resume_from_checkpoint=checkpoint)
        pairs = zip(whole, trainer.model.parameters(), strict=True)
        session.results["same weights"] = all(torch.equal(one, other) for one, other in pairs)

    return script


def resuming_last(session: Session) -> None:
    session.make(max_steps=7).train()
    session.results["train"] = session.make().train(resume_from_checkpoint=True)


RESUMED = [
    Case(
        "in the middle of an epoch",
        SAVED,
        script=resuming(4),
        quick=True,
        except_for=(LOSS_AFTER_RESUME,),
    ),
    Case("in the second epoch", SAVED, script=resuming(8), except_for=(LOSS_AFTER_RESUME,)),
    Case("evaluated", SAVED | EVALUATED, script=resuming(4), except_for=(LOSS_AFTER_RESUME,)),
    Case(
        "accumulation 2",
        SAVED | {"save_steps": 2, "gradient_accumulation_steps": 2},
        script=resuming(4),
        except_for=(LOSS_AFTER_RESUME,),
    ),
    Case(
        "keywords of the loss",
        SAVED | {"gradient_accumulation_steps": 2, "save_steps": 2},
        LossKeywords,
        script=resuming(2),
        except_for=(LOSS_AFTER_RESUME,),
    ),
    Case(
        "best model",
        SAVED | EVALUATED | {"load_best_model_at_end": True},
        script=resuming(8),
        except_for=(LOSS_AFTER_RESUME,),
    ),
    Case(
        "from the last",
        SAVED | {"save_steps": 3},
        script=resuming_last,
        except_for=(LOSS_AFTER_RESUME,),
    ),
    Case(
        "data not skipped",
        SAVED | {"ignore_data_skip": True},
        script=resuming(4),
        except_for=(LOSS_AFTER_RESUME,),
    ),
]


@each(CASES)
def test_calls(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(INITIALISED)
def test_model_init(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)


@each(RESUMED)
def test_resumed(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
