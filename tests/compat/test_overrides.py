"""Subclasses: what they override is called as there, and what is never called is refused."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from stepbus import ArgumentError, Trainer, TrainingArguments
from stepbus.schemas.trainer_names import (
    CALLED,
    FORMER_METHODS,
    OVERRIDABLE,
    REFERENCE_METHODS,
    instead_of_method,
)
from tests.compat.apart import PREPARATION_TIME
from tests.compat.pairs import make, of_both
from tests.differential.case import Case, Outcome, Session
from tests.differential.data import rows
from tests.differential.libraries import REFERENCE, STEPBUS
from tests.differential.models import Regression

Check = Callable[[Case], Outcome]


def own_prediction(base: Any) -> Any:
    """Adds to what `predict` gives, and predicts after each evaluation."""

    class Trainer(base):  # type: ignore[misc]
        def predict(self, test_dataset: Any, *args: Any, **keywords: Any) -> Any:
            output = super().predict(test_dataset, *args, **keywords)
            return output._replace(metrics=output.metrics | {"more": len(output.predictions)})

    return Trainer


def own_test_loader(base: Any) -> Any:
    """A loader of its own for what is predicted."""

    class Trainer(base):  # type: ignore[misc]
        def get_test_dataloader(self, test_dataset: Any) -> Any:
            return DataLoader(test_dataset, batch_size=3, collate_fn=self.data_collator)

    return Trainer


def own_optimizer_and_schedule(base: Any) -> Any:
    """Makes both in one method, as many scripts do."""

    class Trainer(base):  # type: ignore[misc]
        def create_optimizer_and_scheduler(self, num_training_steps: int) -> None:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.2, momentum=0.5)
            self.lr_scheduler = torch.optim.lr_scheduler.LinearLR(
                self.optimizer, 1.0, 0.1, num_training_steps
            )

    return Trainer


def own_saving(base: Any) -> Any:
    """Writes beside the model, in checkpoints as well."""

    class Trainer(base):  # type: ignore[misc]
        def save_model(self, output_dir: Any = None, _internal_call: bool = False) -> None:
            super().save_model(output_dir, _internal_call)
            folder = Path(output_dir or self.args.output_dir)
            (folder / "note.txt").write_text(f"of a checkpoint: {_internal_call}")

    return Trainer


def predicted(session: Session) -> None:
    trainer = session.make()
    trainer.train()
    session.results["predict"] = trainer.predict(rows(7, 3), metric_key_prefix="own")


def predicted_alone(session: Session) -> None:
    session.results["predict"] = session.make().predict(rows(6, 3))


def saved(session: Session) -> None:
    trainer = session.make()
    trainer.train()
    trainer.save_model()
    notes = sorted(session.folder.rglob("note.txt"))
    session.results["notes"] = [
        (str(note.relative_to(session.folder)), note.read_text()) for note in notes
    ]


CASES = [
    Case("predict", subclass=own_prediction, script=predicted, except_for=(PREPARATION_TIME,)),
    Case(
        "get_test_dataloader",
        subclass=own_test_loader,
        script=predicted_alone,
        except_for=(PREPARATION_TIME,),
    ),
    Case("save_model", {"save_strategy": "epoch"}, subclass=own_saving, script=saved),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_overrides(check: Check, case: Case) -> None:
    check(case)


def test_create_optimizer_and_scheduler_is_called(tmp_path: Path) -> None:
    """The reference says that it is to be overridden, and does not call it since version 5."""
    trainer = make(STEPBUS, tmp_path, max_steps=4)
    trainer = own_optimizer_and_schedule(STEPBUS.Trainer)(
        trainer.model, trainer.args, train_dataset=rows(12)
    )
    trainer.train()
    assert type(trainer.optimizer) is torch.optim.SGD
    rates = [row["learning_rate"] for row in trainer.state.log_history[:-1]]
    assert rates == pytest.approx([0.2, 0.155, 0.11, 0.065])
    assert "create_optimizer_and_scheduler" in inspect.getsource(REFERENCE.Trainer.__init__) + (
        inspect.getsource(REFERENCE.Trainer._validate_args)
    )


@pytest.mark.parametrize("name", sorted(OVERRIDABLE))
def test_an_override_is_called_with_the_reference_s_parameters(name: str) -> None:
    theirs, ours = of_both(
        lambda library: list(inspect.signature(getattr(library.Trainer, name)).parameters)
    )
    assert ours[: len(theirs)] == theirs


@pytest.mark.parametrize("name", sorted(OVERRIDABLE))
def test_an_override_that_calls_its_base_is_taken(name: str, tmp_path: Path) -> None:
    def method(self: Any, *args: Any, **keywords: Any) -> Any:
        return getattr(Trainer, name)(self, *args, **keywords)

    Own = type("Own", (Trainer,), {name: method})  # noqa: N806
    assert make_one(Own, tmp_path).model is not None


@pytest.mark.parametrize("name", sorted((REFERENCE_METHODS | FORMER_METHODS.keys()) - OVERRIDABLE))
def test_an_override_that_would_never_be_called_is_refused_by_name(
    name: str, tmp_path: Path
) -> None:
    Own = type("Own", (Trainer,), {name: lambda self: None})  # noqa: N806
    with pytest.raises(ArgumentError) as caught:
        make_one(Own, tmp_path)
    assert str(caught.value) == (
        f"Own overrides what stepbus's Trainer never calls: Own.{name}: {instead_of_method(name)}."
    )
    assert not (tmp_path / "out").exists(), "refused before anything is written"


@pytest.mark.parametrize(
    "name",
    sorted((REFERENCE_METHODS | FORMER_METHODS.keys()) - OVERRIDABLE - CALLED),
)
def test_a_method_that_there_is_none_of_says_what_to_do(name: str, tmp_path: Path) -> None:
    trainer = make_one(Trainer, tmp_path)
    if name in FORMER_METHODS:
        with pytest.raises(AttributeError, match=name):
            getattr(trainer, name)
        return
    with pytest.raises(AttributeError) as caught:
        getattr(trainer, name)
    assert str(caught.value) == f"stepbus's Trainer has no {name}: {instead_of_method(name)}."


def make_one(kind: Any, folder: Path) -> Any:
    """A trainer of a class, around a model that has a loss."""
    args = TrainingArguments(str(folder / "out"), use_cpu=True, disable_tqdm=True)
    return kind(Regression(), args)
