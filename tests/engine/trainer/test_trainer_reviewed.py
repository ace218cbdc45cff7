"""What scripts do to a Trainer besides training: patch it, copy its model, put another in place."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepbus import Trainer, TrainerCallback, TrainerControl
from stepbus.schemas.errors import DataError
from tests.engine.trainer.conftest import Regression, Watcher, samples, weights

Make = Callable[..., Trainer]


def test_an_optimizer_with_modes_is_in_training_mode_after_an_evaluation(
    make_trainer: Make,
) -> None:
    class ScheduleFree(torch.optim.SGD):
        mode = "none"

        def train(self) -> None:
            self.mode = "train"

        def eval(self) -> None:
            self.mode = "eval"

        def step(self, closure: Any = None) -> Any:
            modes.append(self.mode)
            return super().step(closure)

    modes: list[str] = []
    model = Regression()
    optimizer = ScheduleFree(model.parameters(), lr=0.01)
    given = {"optimizers": (optimizer, None), "eval_dataset": samples(8)}
    make_trainer(model=model, given=given, eval_strategy="steps", eval_steps=2).train()
    assert modes == ["train"] * 12
    assert optimizer.mode == "eval"


def test_training_step_can_be_called_before_any_training(make_trainer: Make) -> None:
    trainer = make_trainer()
    batch = {"x": torch.ones(2, 8), "labels": torch.ones(2, 1)}
    assert trainer.training_step(trainer.model, batch).ndim == 0


def test_another_model_in_the_place_of_the_trained_one_is_evaluated(make_trainer: Make) -> None:
    trainer = make_trainer(given={"eval_dataset": samples(8)})
    untrained = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] != untrained
    trainer.model = Regression()
    assert trainer.evaluate()["eval_loss"] == untrained
    assert np.array_equal(
        trainer.predict(samples(4)).predictions,
        make_trainer().predict(samples(4)).predictions,
    )


def test_a_method_that_is_assigned_to_a_trainer_is_called(make_trainer: Make) -> None:
    trainer = make_trainer(given={"eval_dataset": samples(8)})
    own, calls = trainer.compute_loss, 0

    def counted(*given: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        return own(*given, **keywords)

    trainer.compute_loss = counted  # type: ignore[method-assign]
    trainer.train()
    assert calls == 12
    trainer.evaluate()
    assert calls == 13


def test_an_override_that_does_not_take_the_items_trains_and_evaluates(make_trainer: Make) -> None:
    class Former(Trainer):
        def compute_loss(  # type: ignore[override]
            self, model: Any, inputs: Any, return_outputs: bool = False
        ) -> Any:
            outputs = model(**inputs)
            return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

        def training_step(self, model: Any, inputs: Any) -> Tensor:  # type: ignore[override]
            return super().training_step(model, inputs)

    former = make_trainer(trainer_class=Former, eval_strategy="epoch")
    former.train()
    plain = make_trainer(eval_strategy="epoch")
    plain.train()
    assert weights(former) == weights(plain)


def test_a_deep_copy_of_a_model_in_mixed_precision_has_its_own_weights(make_trainer: Make) -> None:
    seen: list[float] = []

    class Averages(TrainerCallback):
        def on_train_begin(self, *given: Any, **keywords: Any) -> None:
            model: nn.Module = keywords["model"]
            for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                with torch.no_grad():
                    for parameter in twin.parameters():
                        parameter.zero_()
                    seen.append(float(twin.eval()(torch.ones(1, 8))["logits"]))

    trainer = make_trainer(given={"callbacks": [Averages()]}, bf16=True)
    trainer.train()
    assert seen == [0.0, 0.0]
    assert "forward" not in vars(trainer.model)


def test_tensors_that_no_log_round_will_take_are_logged_at_once(make_trainer: Make) -> None:
    class Last(TrainerCallback):
        def on_train_end(self, *given: Any, **keywords: Any) -> None:
            trainer.log({"last": torch.tensor(3.0)})

    trainer = make_trainer(given={"callbacks": [Last()]})
    trainer.train()
    trainer.log({"after": torch.tensor(2.0), "numpy": np.float32(0.5)})
    last, after = trainer.state.log_history[-2:]
    assert last["last"] == 3.0
    assert (after["after"], after["numpy"]) == (2.0, 0.5)
    assert all(type(value) in (int, float) for row in (last, after) for value in row.values())


def test_an_attribute_error_within_a_property_is_told_as_it_is(make_trainer: Make) -> None:
    class Asks(Trainer):
        @property
        def broken(self) -> Any:
            return self.args.no_such_argument

    with pytest.raises(AttributeError, match="no_such_argument"):
        _ = make_trainer(trainer_class=Asks).broken


def test_a_control_that_is_assigned_hands_over_its_flags(make_trainer: Make) -> None:
    class Stops(Trainer):
        def training_step(self, *given: Any, **keywords: Any) -> Tensor:
            self.control = TrainerControl(should_training_stop=self.state.global_step == 2)
            return super().training_step(*given, **keywords)

    assert make_trainer(trainer_class=Stops).train().global_step == 3


def test_a_resume_goes_on_with_the_batch_size_that_was_found(
    make_trainer: Make, tmp_path: Path
) -> None:
    class Large(Regression):
        limit = 3

        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            sizes.append(len(x))
            if len(x) > self.limit:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(x, labels)

    sizes: list[int] = []
    fields: dict[str, Any] = {"save_strategy": "steps", "save_steps": 5}
    whole = make_trainer(model=Large(), auto_find_batch_size=True, **fields)
    assert whole.train().global_step == 16
    assert sizes == [4] + [3] * 16
    sizes.clear()
    model = Large()
    model.limit = 99
    resumed = make_trainer(model=model, auto_find_batch_size=True, **fields)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-5"))
    assert sizes == [3] * 11
    assert weights(resumed) == weights(whole)


def test_a_collator_that_gives_none_is_an_error_and_no_end_of_the_epoch(make_trainer: Make) -> None:
    def collate(features: list[Any]) -> Any:
        calls.append(len(features))
        names = ("x", "labels")
        kept = {name: torch.stack([each[name] for each in features]) for name in names}
        return None if len(calls) == 3 else kept

    calls: list[int] = []
    trainer = make_trainer(given={"data_collator": collate})
    with pytest.raises(DataError, match="collator gave None"):
        trainer.train()


def test_workers_that_persist_over_epochs_end_with_the_training(make_trainer: Make) -> None:
    trainer = make_trainer(
        eval_strategy="epoch", dataloader_num_workers=1, dataloader_persistent_workers=True
    )
    trainer.train()
    assert not multiprocessing.active_children()
    trainer.train()
    assert not multiprocessing.active_children()


def test_with_blocks_of_one_trainer_can_be_nested(make_trainer: Make) -> None:
    trainer = make_trainer(given={"eval_dataset": samples(8)})
    with trainer:
        with trainer:
            trainer.evaluate()
        assert trainer.bus.running
        trainer.evaluate()
    assert not trainer.bus.running


def test_a_callback_that_fails_or_draws_at_set_up_changes_no_weight(
    make_trainer: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Draws(TrainerCallback):
        def on_init_end(self, *given: Any, **keywords: Any) -> None:
            torch.rand(3)
            raise LookupError("no dashboard")

    quiet = make_trainer()
    quiet.train()
    with caplog.at_level(logging.ERROR):
        loud = make_trainer(given={"callbacks": [Draws(), Watcher()]})
    assert "Draws.on_init_end failed" in caplog.text
    loud.train()
    assert weights(quiet) == weights(loud)


def test_the_references_ways_to_call_callbacks_say_what_to_do_here(make_trainer: Make) -> None:
    handler = make_trainer().callback_handler
    with pytest.raises(AttributeError, match=r"no on_log: .*trainer\.log"):
        handler.on_log  # noqa: B018
    assert not hasattr(handler, "model")
