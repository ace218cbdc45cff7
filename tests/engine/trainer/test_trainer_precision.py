"""Half precision, the gradient scaler, and batches that do not fit into memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from stepbus import ArgumentError, Trainer, TrainerCallback
from stepbus.engine.trainer import training
from tests.engine.trainer.conftest import Regression, Watcher, samples

Make = Callable[..., Trainer]


class Overflows(Regression):
    """Its loss is infinite at one call."""

    calls = 0

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        outputs = super().forward(x, labels)
        self.calls += 1
        if self.calls == 3:
            outputs["loss"] = outputs["loss"] * float("inf")
        return outputs


@pytest.fixture
def cpu_scaler(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp16 is for CUDA; torch's scaler itself works on the CPU too, so its part can be run here."""
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    monkeypatch.setattr(training, "make_scaler", lambda args, device: scaler)


@pytest.mark.usefixtures("cpu_scaler")
def test_a_step_with_overflown_gradients_is_skipped_and_said_so(make_trainer: Make) -> None:
    watcher, rates, before = Watcher(), [], []

    class Looks(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            before.append([p.detach().clone() for p in kw["model"].parameters()])

        def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            rates.append(kw["lr_scheduler"].get_last_lr()[0])
            same = [
                torch.equal(p, q) for p, q in zip(kw["model"].parameters(), before[-1], strict=True)
            ]
            assert all(same) == (state.global_step == 3)

    trainer = make_trainer(model=Overflows(0.0), given={"callbacks": [watcher, Looks()]})
    trainer.train()
    (skipped,) = watcher.of("optimizer_step_skipped")
    assert (skipped.step, skipped.loss_scale) == (2, 256.0)
    assert rates[2] == rates[1], "the schedule waits too"
    assert trainer.state.global_step == 12
    assert len(watcher.of("optimizer_step")) == 12


@pytest.mark.usefixtures("cpu_scaler")
def test_a_scaler_changes_nothing_where_nothing_overflows(make_trainer: Make) -> None:
    trainer = make_trainer(logging_strategy="steps", logging_steps=1)
    trainer.train()
    norms = [row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row]
    assert max(norms) < 100, "norms are those of the unscaled gradients"


def test_what_needs_cuda_is_refused_before_anything_is_made(make_trainer: Make) -> None:
    with pytest.raises(ArgumentError, match="tf32=True needs"):
        make_trainer(tf32=True)


def test_bf16_computes_in_bfloat16_and_gives_float32(make_trainer: Make) -> None:
    seen: list[torch.dtype] = []

    class Looks(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *given: Any, **keywords: Any) -> Any:
            outputs = model(**inputs)
            seen.append(outputs["logits"].dtype)
            return outputs["loss"]

    model = Regression()
    trainer = make_trainer(trainer_class=Looks, model=model, bf16=True)
    model.inner.register_forward_hook(lambda *given: seen.append(given[-1].dtype))
    trainer.train()
    assert seen[:2] == [torch.bfloat16, torch.float32]
    assert "forward" not in vars(trainer.model), "the model is what it was"


def test_bf16_full_eval_casts_the_model_outside_of_training(make_trainer: Make) -> None:
    model = Regression()
    trainer = make_trainer(model=model, given={"eval_dataset": samples(8)}, bf16_full_eval=True)
    data = [{name: value.bfloat16() for name, value in sample.items()} for sample in samples(8)]
    trainer.evaluate(data)
    assert model.inner.weight.dtype == torch.bfloat16


class Greedy(Regression):
    """Runs out of memory above a batch size."""

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        if len(x) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate too much")
        return super().forward(x, labels)


def test_a_smaller_batch_is_found(make_trainer: Make) -> None:
    watcher, begins = Watcher(), []

    class Begins(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            begins.append(state.max_steps)

    trainer = make_trainer(
        model=Greedy(),
        given={"callbacks": [watcher, Begins()]},
        per_device_train_batch_size=12,
        auto_find_batch_size=True,
    )
    result = trainer.train()
    retries = watcher.of("batch_size_retry")
    assert [(retry.from_batch_size, retry.to_batch_size) for retry in retries] == [(12, 10)]
    assert result.global_step == 6
    assert trainer.state.train_batch_size == 10
    assert begins == [4, 6]
    assert not watcher.of("run_failed")
    assert len({event.run_id for event in watcher.events}) == 1
    assert {event.attempt for event in watcher.events} == {1, 2}


def test_without_a_size_that_fits_the_error_says_so(make_trainer: Make) -> None:
    class Never(Regression):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    trainer = make_trainer(model=Never(), per_device_train_batch_size=2, auto_find_batch_size=True)
    with pytest.raises(ArgumentError, match="not even a batch of 1 fits"):
        trainer.train()


def test_other_errors_are_no_reason_for_a_smaller_batch(make_trainer: Make) -> None:
    class Broken(Regression):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
            raise RuntimeError("shapes do not match")

    trainer = make_trainer(model=Broken(), auto_find_batch_size=True)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trainer.train()


def test_an_evaluation_without_memory_is_not_the_training_batchs_fault(make_trainer: Make) -> None:
    trainer = make_trainer(
        model=Greedy(),
        given={"eval_dataset": samples(12)},
        auto_find_batch_size=True,
        eval_strategy="epoch",
        per_device_eval_batch_size=12,
    )
    with pytest.raises(RuntimeError, match="lower per_device_eval_batch_size"):
        trainer.train()
