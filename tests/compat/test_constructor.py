"""What a Trainer is made of, argument by argument, beside the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stepbus import EventBus
from tests.compat.pairs import LIBRARIES, make, of_both
from tests.differential.case import Case, Outcome, Session
from tests.differential.data import rows, sets, texts
from tests.differential.libraries import REFERENCE, STEPBUS, TOKENIZERS, Library
from tests.differential.models import LossKeywords, Regression, gpt2

Check = Callable[[Case], Outcome]

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 4}
GROUPS: dict[str, Any] = {"gradient_accumulation_steps": 2}


def doubled(samples: list[Any]) -> dict[str, Tensor]:
    """A collator with figures of its own."""
    return {
        "x": 2 * torch.stack([sample["x"] for sample in samples]),
        "labels": torch.stack([sample["labels"] for sample in samples]),
    }


def own_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    total = F.l1_loss(outputs[0], labels, reduction="sum")
    return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)


def of_trials(trial: Any) -> Any:
    """A `model_init` of the kind that searches call."""
    assert trial is None
    return Regression(0.3)


def scores(prediction: Any) -> dict[str, float]:
    return {"mean": float(prediction.predictions.mean())}


def rounded(logits: Any, labels: Any) -> Any:
    return (logits - labels).round()


def tokenizer() -> Any:
    """A tokenizer of whole words, which pads."""
    words = {f"w{i}": i for i in range(19)}
    core = TOKENIZERS.Tokenizer(TOKENIZERS.models.WordLevel(words, unk_token="w1"))
    return REFERENCE.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="w0", eos_token="w2")


def unpadded() -> list[dict[str, Any]]:
    """Texts of several lengths, which only what pads can put together."""
    return [{k: v for k, v in row.items() if k != "labels"} for row in texts(12, padded=False)()]


class OfTexts(Regression):
    """Finds the length of a text; the labels are the texts themselves."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        assert attention_mask is not None
        found = self.predict(input_ids[:, :3].float().repeat(1, 2)[:, :4])
        return (F.mse_loss(found, attention_mask.sum(1, keepdim=True).float()), found)


def by_position(session: Session) -> None:
    """All that is usually written without a name."""
    library = session.library
    torch.manual_seed(7)
    args = session.make().args
    session.calls.clear()
    torch.manual_seed(7)
    trainer = library.Trainer(Regression(), args, doubled, rows(12), rows(5, 1))
    session.trainer = trainer
    session.results["train"] = trainer.train()
    session.results["evaluate"] = trainer.evaluate()


CASES = [
    Case("by position", script=by_position),
    Case("data_collator", EVALUATED, trainer=lambda library: {"data_collator": doubled}),
    Case("eval_dataset, several", EVALUATED, eval=sets(one=3, two=5)),
    Case("model_init", EVALUATED, trainer=lambda library: {"model_init": lambda: Regression(0.3)}),
    Case("model_init of a trial", trainer=lambda library: {"model_init": of_trials}),
    Case(
        "compute_loss_func",
        EVALUATED | GROUPS,
        LossKeywords,
        trainer=lambda library: {"compute_loss_func": own_loss},
    ),
    Case("compute_metrics", EVALUATED, trainer=lambda library: {"compute_metrics": scores}),
    Case(
        "preprocess_logits_for_metrics",
        EVALUATED,
        trainer=lambda library: {
            "compute_metrics": scores,
            "preprocess_logits_for_metrics": rounded,
        },
    ),
    Case(
        "optimizer_cls_and_kwargs",
        {"weight_decay": 0.1},
        trainer=lambda library: {"optimizer_cls_and_kwargs": (torch.optim.Adamax, {"lr": 0.05})},
    ),
    Case(
        "processing_class, whose padding is the default collator",
        {"save_strategy": "epoch"},
        OfTexts,
        unpadded,
        unpadded,
        trainer=lambda library: {"processing_class": tokenizer()},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases(check: Check, case: Case) -> None:
    check(case)


def given_pair(model: Any) -> tuple[Any, Any]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return optimizer, torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.8)


def test_optimizers(check: Check) -> None:
    check(Case("optimizers", EVALUATED, optimizers=given_pair))


def test_callbacks_are_taken_as_classes_and_as_instances(check: Check) -> None:
    def stopping(library: Library) -> list[Any]:
        class Stops(library.TrainerCallback):  # type: ignore[misc,name-defined]
            def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
                control.should_training_stop = state.global_step == 5

        return [Stops, library.EarlyStoppingCallback(early_stopping_patience=9)]

    arguments = {**EVALUATED, "metric_for_best_model": "loss", "save_strategy": "no"}
    outcome = check(Case("callbacks", arguments, callbacks=stopping))
    assert outcome.state["step"] == 5


@pytest.mark.filterwarnings("ignore:'pin_memory' argument:UserWarning")
@LIBRARIES
def test_a_model_alone_makes_a_trainer_that_predicts(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    trainer = library.Trainer(Regression())
    assert trainer.args.output_dir == "tmp_trainer"
    assert trainer.predict(rows(5)).predictions.shape == (5, 1)
    with pytest.raises(ValueError, match="train_dataset"):
        trainer.train()


def test_a_tokenizer_goes_by_its_former_name_with_one_warning(tmp_path: Path) -> None:
    former = tokenizer()
    with pytest.warns(FutureWarning, match="now called processing_class") as told:
        ours = make(STEPBUS, tmp_path, given={"tokenizer": former, "model": gpt2()})
    assert len(told) == 1
    theirs = make(REFERENCE, tmp_path, given={"processing_class": former, "model": gpt2()})
    assert ours.processing_class is theirs.processing_class is ours.tokenizer
    kinds = [type(trainer.data_collator).__name__ for trainer in (theirs, ours)]
    assert kinds[0] == "DataCollatorWithPadding"
    batches = [trainer.data_collator(unpadded()[:3]) for trainer in (theirs, ours)]
    assert {k: v.tolist() for k, v in batches[0].items()} == {
        k: v.tolist() for k, v in batches[1].items()
    }


def test_the_default_collator_is_that_of_the_reference(tmp_path: Path) -> None:
    found = of_both(lambda library: make(library, tmp_path).data_collator.__name__)
    assert found == ("default_data_collator", "default_data_collator")


def test_a_bus_of_ones_own_hears_of_the_run(tmp_path: Path) -> None:
    bus, steps = EventBus(), []

    @bus.subscribe("step_end")
    def note(event: Any) -> None:
        steps.append(event.step)

    trainer = make(STEPBUS, tmp_path, given={"bus": bus}, max_steps=3)
    assert trainer.bus is bus
    trainer.train()
    assert steps == [1, 2, 3]
