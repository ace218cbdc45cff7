"""Errors that leave the Trainer tell what to set, or how to go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepbus import ArgumentError, Trainer, TrainerCallback
from tests.engine.trainer.conftest import samples

Make = Callable[..., Trainer]


class Unlabelled(nn.Module):
    """Takes no labels, as most modules of people's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.inner(x))


class OwnLoss(Trainer):
    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = nn.functional.mse_loss(outputs, labels)
        return (loss, {"logits": outputs}) if return_outputs else loss


class Interrupts(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGINT)


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))


def test_a_loss_without_its_labels_names_the_argument_that_keeps_them(make_trainer: Make) -> None:
    trainer = make_trainer(trainer_class=OwnLoss, model=Unlabelled())
    with pytest.raises(KeyError) as raised:
        trainer.train()
    assert "label_names=['labels']" in notes(raised.value)
    assert "Unlabelled.forward" in notes(raised.value)


def test_an_evaluation_that_passes_labels_to_the_model_names_the_argument(
    make_trainer: Make,
) -> None:
    trainer = make_trainer(
        trainer_class=OwnLoss,
        model=Unlabelled(),
        remove_unused_columns=False,
        eval_strategy="epoch",
    )
    with pytest.raises(TypeError) as raised:
        trainer.train()
    assert "label_names=['labels']" in notes(raised.value)


def test_the_advice_works(make_trainer: Make) -> None:
    trainer = make_trainer(
        trainer_class=OwnLoss,
        model=Unlabelled(),
        label_names=["labels"],
        eval_strategy="epoch",
    )
    trainer.train()
    assert "eval_loss" in trainer.evaluate()


def test_an_error_of_the_programs_own_has_no_such_note(make_trainer: Make) -> None:
    class Fails(OwnLoss):
        def compute_loss(self, *given: Any, **keywords: Any) -> Any:
            raise KeyError("x")

    with pytest.raises(KeyError) as raised:
        make_trainer(trainer_class=Fails).train()
    assert not notes(raised.value)


def test_a_method_under_a_name_that_the_trainer_uses_itself_is_refused(make_trainer: Make) -> None:
    class Taken(Trainer):
        def _run(self) -> None:  # type: ignore[override]
            """A private method of the program's own."""

        def ledger(self) -> None:  # type: ignore[override]
            """One with a public name that the reference has not."""

        def own(self) -> None:
            """One that is nobody else's."""

    with pytest.raises(ArgumentError, match=r"rename Taken\._run, Taken\.ledger\."):
        make_trainer(trainer_class=Taken)


def test_ctrl_c_tells_where_to_go_on(make_trainer: Make) -> None:
    trainer = make_trainer(given={"callbacks": [Interrupts], "train_dataset": samples()})
    with pytest.raises(KeyboardInterrupt) as raised:
        trainer.train()
    folder = f"{trainer.args.output_dir}/checkpoint-3"
    assert f"train(resume_from_checkpoint={folder!r}) goes on" in notes(raised.value)
    again = make_trainer()
    again.train(resume_from_checkpoint=folder)
    assert again.state.global_step == 12
