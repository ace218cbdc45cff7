"""What cannot work is one clear error, before the first step wherever it can be known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from stepbus import ArgumentError, DataError, Trainer, TrainingArguments
from tests.engine.trainer.conftest import Regression, samples

Make = Callable[..., Trainer]


class NoLoss(nn.Module):
    """Gives logits alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 1)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {"logits": self.inner(x)}


class Detached(Regression):
    """Detaches its loss."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in super().forward(x, labels).items()}


def test_an_empty_data_set(make_trainer: Make) -> None:
    with pytest.raises(DataError, match="train_dataset is empty"):
        make_trainer(given={"train_dataset": []})


def test_no_data_set(make_trainer: Make) -> None:
    trainer = make_trainer(given={"train_dataset": None})
    with pytest.raises(ArgumentError, match="train_dataset"):
        trainer.train()


def test_a_model_without_a_loss_names_what_it_gave(make_trainer: Make) -> None:
    with pytest.raises((ArgumentError, DataError), match="logits"):
        make_trainer(model=NoLoss()).train()


def test_labels_that_the_collator_dropped(make_trainer: Make) -> None:
    def collator(features: list[Any]) -> dict[str, Tensor]:
        return {"x": torch.stack([feature["x"] for feature in features])}

    with pytest.raises((ArgumentError, DataError), match="label"):
        make_trainer(given={"data_collator": collator}).train()


def test_a_loss_without_a_gradient(make_trainer: Make) -> None:
    with pytest.raises(ArgumentError, match="The loss has no gradient"):
        make_trainer(model=Detached()).train()


def test_a_model_with_nothing_to_train(make_trainer: Make) -> None:
    model = Regression()
    for parameter in model.parameters():
        parameter.requires_grad = False
    with pytest.raises(ArgumentError, match="No parameter of Regression"):
        make_trainer(model=model).train()


def test_no_model_two_models_and_what_is_none(make_trainer: Make) -> None:
    with pytest.raises(ArgumentError, match="needs a model"):
        Trainer(args=TrainingArguments("nowhere", use_cpu=True))
    with pytest.raises(ArgumentError, match="a model and a model_init"):
        Trainer(Regression(), TrainingArguments("nowhere"), model_init=Regression)
    with pytest.raises(ArgumentError, match=r"give a torch\.nn\.Module"):
        Trainer("bert-base", TrainingArguments("nowhere"))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="it must return"):
        make_trainer(given={"model_init": lambda: None})
    assert not Path("nowhere").exists()


def test_the_references_arguments_are_told_apart(make_trainer: Make) -> None:
    args = transformers.TrainingArguments("nowhere", use_cpu=True, report_to="none")
    with pytest.raises(ArgumentError, match="from stepbus import TrainingArguments"):
        Trainer(Regression(), args)  # type: ignore[arg-type]


def test_the_metric_for_the_best_model_that_an_evaluation_does_not_give(make_trainer: Make) -> None:
    trainer = make_trainer(eval_strategy="epoch", metric_for_best_model="accuracy")
    with pytest.raises(ArgumentError, match="eval_accuracy"):
        trainer.train()


def test_a_schedule_by_a_metric_that_an_evaluation_does_not_give(make_trainer: Make) -> None:
    trainer = make_trainer(
        eval_strategy="epoch",
        metric_for_best_model="accuracy",
        lr_scheduler_type="reduce_lr_on_plateau",
    )
    with pytest.raises(ArgumentError, match="eval_accuracy"):
        trainer.train()


def test_evaluations_without_data(make_trainer: Make) -> None:
    for fields in ({"eval_strategy": "steps"}, {"eval_on_start": True}):
        with pytest.raises(ArgumentError, match="no eval_dataset"):
            make_trainer(given={"eval_dataset": None}, **fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"max_grad_norm": float("nan")}, "max_grad_norm"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end"),
        ({"logging_strategy": "steps", "logging_steps": 0}, "logging_steps"),
    ],
)
def test_contradictory_arguments(make_trainer: Make, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        make_trainer(**fields)


def test_arguments_assigned_later_are_checked_when_training_starts(make_trainer: Make) -> None:
    trainer = make_trainer()
    trainer.args.learning_rate = "abc"
    with pytest.raises(ArgumentError, match="learning_rate"):
        trainer.train()


def test_overrides_that_would_never_be_called(make_trainer: Make) -> None:
    class Old(Trainer):
        def _inner_training_loop(self) -> None: ...
        def get_batch_samples(self) -> None: ...
        def own_helper(self) -> None: ...

    with pytest.raises(ArgumentError, match="_inner_training_loop") as error:
        make_trainer(trainer_class=Old)
    assert "get_batch_samples" in str(error.value)
    assert "own_helper" not in str(error.value)


def test_a_search_for_hyperparameters(make_trainer: Make) -> None:
    trainer = make_trainer()
    with pytest.raises(ArgumentError, match="one Trainer for each trial"):
        trainer.train(trial={"lr": 1.0})
    with pytest.raises(AttributeError, match="searches no hyperparameters"):
        trainer.hyperparameter_search()


def test_attributes_that_are_not_here_say_why(make_trainer: Make) -> None:
    trainer = make_trainer()
    with pytest.raises(AttributeError, match="does not use accelerate"):
        _ = trainer.accelerator
    with pytest.raises(AttributeError, match="no attribute 'acelerator'"):
        _ = trainer.acelerator
    assert not hasattr(trainer, "deepspeed")


def test_several_ranks_are_refused_before_anything_is_written(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ArgumentError, match="WORLD_SIZE is 2"):
        make_trainer()
    assert not (tmp_path / "out").exists()


def test_optimizers_given_twice_or_for_a_model_to_be_made(make_trainer: Make) -> None:
    model = Regression()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    both: dict[str, Any] = {
        "optimizers": (optimizer, None),
        "optimizer_cls_and_kwargs": (torch.optim.SGD, {}),
    }
    with pytest.raises(ArgumentError, match="give one of them"):
        make_trainer(model=model, given=both)
    with pytest.raises(ArgumentError, match="model_init and optimizers"):
        make_trainer(given={"model_init": Regression, "optimizers": (optimizer, None)})
    with pytest.raises(ArgumentError, match="give a pair"):
        make_trainer(model=model, given={"optimizers": optimizer})


def test_a_former_tokenizer_is_taken_with_a_warning(make_trainer: Make) -> None:
    with pytest.warns(FutureWarning, match="processing_class"):
        trainer = make_trainer(given={"tokenizer": (tokenizer := nn.Identity())})
    assert trainer.processing_class is tokenizer
    assert trainer.tokenizer is tokenizer


def test_a_data_set_that_ends_sooner_than_the_steps_ends_the_run(make_trainer: Make) -> None:
    class Once(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
        def __init__(self) -> None:
            self.left = iter(samples())

        def __iter__(self) -> Any:
            return self.left

    trainer = make_trainer(given={"train_dataset": Once()}, max_steps=50)
    assert trainer.train().global_step == 6
    assert trainer.summary is not None
    assert trainer.summary.status == "stopped"
