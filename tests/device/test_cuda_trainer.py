"""What only a CUDA device can show of the Trainer. Run by `make test-device`."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stepbus import Event, Subscriber, Trainer, TrainerCallback, TrainingArguments

# Read with the first multiplication of this process; needed by the deterministic ones.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

NUM_SAMPLES, LENGTH, VOCABULARY = 192, 8, 50
BATCH, ACCUMULATION = 4, 2
STEPS_AN_EPOCH = NUM_SAMPLES // (BATCH * ACCUMULATION)


class Bigrams(nn.Module):
    """Predicts each token from itself: an embedding, dropout, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = nn.Embedding(VOCABULARY, 32)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(32, VOCABULARY)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        logits = self.head(self.dropout(self.embedding(input_ids)))
        outputs = {"logits": logits}
        if labels is not None:
            outputs["loss"] = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return outputs


def samples() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(NUM_SAMPLES):
        text = torch.randint(1, VOCABULARY, (LENGTH,), generator=generator)
        real = int(torch.randint(1, LENGTH + 1, (1,), generator=generator))
        mask = (torch.arange(LENGTH) < real).long()
        labels = torch.where(mask.bool(), text, -100)
        found.append({"input_ids": text * mask, "attention_mask": mask, "labels": labels})
    return found


class Watcher(Subscriber):
    """Keeps every event that it gets."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)


def make_trainer(
    output_dir: Path, *callbacks: Any, model: nn.Module | None = None, **fields: Any
) -> Trainer:
    given: dict[str, Any] = {
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": ACCUMULATION,
        "num_train_epochs": 1,
        "learning_rate": 1e-2,
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "report_to": "none",
    } | fields
    args = TrainingArguments(str(output_dir), **given)
    model = Bigrams() if model is None else model
    trainer = Trainer(model, args, train_dataset=samples(), callbacks=list(callbacks))
    assert trainer.args.device.type == "cuda"
    return trainer


def weights(trainer: Trainer) -> list[Tensor]:
    return [parameter.detach().cpu() for parameter in trainer.model.parameters()]


@contextmanager
def synchronisations() -> Iterator[list[str]]:
    """Collects the synchronising calls that torch reports of this thread, and of no other."""
    found: list[str] = []
    thread = threading.get_ident()

    def note(message: Any, *_: Any, **__: Any) -> None:
        if threading.get_ident() == thread and "synchronizing" in str(message):
            found.append(str(message))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Deterministic algorithms alone."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class Overflows(Bigrams):
    """Its loss is infinite in one micro-batch of the third step."""

    calls = 0
    computed_in: torch.dtype | None = None

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        outputs = super().forward(input_ids, attention_mask, labels)
        self.calls += 1
        self.computed_in = outputs["logits"].dtype
        if self.calls == 2 * ACCUMULATION + 1:
            outputs["loss"] = outputs["loss"] * float("inf")
        return outputs


def test_fp16_skips_a_step_whose_gradients_overflow_and_goes_on(tmp_path: Path) -> None:
    before: list[list[Tensor]] = []
    same: list[bool] = []
    rates: list[float] = []

    class Looks(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            before.append([p.detach().clone() for p in kw["model"].parameters()])

        def on_step_end(self, args: Any, state: Any, control: Any, **kw: Any) -> None:
            now = kw["model"].parameters()
            same.append(all(torch.equal(p, q) for p, q in zip(now, before[-1], strict=True)))
            rates.append(kw["lr_scheduler"].get_last_lr()[0])

    watcher, model = Watcher(), Overflows()
    trainer = make_trainer(tmp_path, watcher, Looks(), model=model, fp16=True)
    result = trainer.train()
    assert model.computed_in == torch.float16
    assert model.head.weight.dtype == torch.float32
    assert (result.global_step, len(same)) == (STEPS_AN_EPOCH, STEPS_AN_EPOCH)
    # Large as the scale is at the start, others may overflow too.
    skipped = [event for event in watcher.events if event.name == "optimizer_step_skipped"]
    steps = [event.step for event in skipped]
    assert 2 in steps
    assert [step for step, unchanged in enumerate(same) if unchanged] == steps
    assert rates[2] == rates[1], "the schedule waits too"
    scales = [event.loss_scale for event in skipped]  # type: ignore[attr-defined]
    assert scales == sorted(set(scales), reverse=True)
    assert all(torch.isfinite(parameter).all() for parameter in weights(trainer))


def test_bf16_computes_in_bfloat16_and_learns(tmp_path: Path) -> None:
    model = Overflows()
    model.calls = 2 * ACCUMULATION + 1
    trainer = make_trainer(
        tmp_path, model=model, bf16=True, logging_strategy="steps", logging_steps=6
    )
    trainer.train()
    assert model.computed_in == torch.bfloat16
    assert model.head.weight.dtype == torch.float32
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert losses[-1] < losses[0]


def test_the_fused_optimizer_is_the_default_and_gives_what_the_other_does(tmp_path: Path) -> None:
    fused = make_trainer(tmp_path / "fused")
    fused.train()
    assert fused.optimizer is not None
    assert fused.optimizer.defaults["fused"] is True
    other = make_trainer(tmp_path / "other", optim="adamw_torch")
    other.train()
    assert other.optimizer is not None
    assert not other.optimizer.defaults["fused"]
    for ours, theirs in zip(weights(fused), weights(other), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_batches_are_pinned_and_given_on_the_device(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    loader = trainer.get_train_dataloader()
    pinned = next(torch.utils.data.DataLoader.__iter__(loader))
    assert all(tensor.is_pinned() for tensor in pinned.values())
    assert all(tensor.device == trainer.args.device for tensor in next(iter(loader)).values())


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_resumed_training_equals_the_unbroken_one_bit_for_bit(
    tmp_path: Path, precision: str
) -> None:
    fields: dict[str, Any] = {"fp32": {}, "fp16": {"fp16": True}, "bf16": {"bf16": True}}[precision]
    fields |= {"save_strategy": "steps", "save_steps": 5, "num_train_epochs": 2}
    unbroken = make_trainer(tmp_path, **fields)
    unbroken.train()
    # In the first epoch, and in the second.
    for step in (5, STEPS_AN_EPOCH + 1):
        step -= step % 5
        resumed = make_trainer(tmp_path, **fields | {"save_strategy": "no"})
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert resumed.state.global_step == unbroken.state.global_step
        for ours, theirs in zip(weights(resumed), weights(unbroken), strict=True):
            assert torch.equal(ours, theirs), step
        if resumed.scaler is not None and unbroken.scaler is not None:
            assert resumed.scaler.state_dict() == unbroken.scaler.state_dict()


class Greedy(Bigrams):
    """Asks for a share of the device's whole memory for each sample."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, Tensor]:
        a_sample = torch.cuda.get_device_properties(input_ids.device).total_memory // 40
        torch.empty(len(input_ids) * a_sample, dtype=torch.uint8, device=input_ids.device)
        return super().forward(input_ids, attention_mask, labels)


def test_a_batch_that_fits_is_found_after_running_out_of_memory(tmp_path: Path) -> None:
    watcher = Watcher()
    trainer = make_trainer(
        tmp_path,
        watcher,
        model=Greedy(),
        per_device_train_batch_size=64,
        gradient_accumulation_steps=1,
        auto_find_batch_size=True,
    )
    result = trainer.train()
    retries = [event for event in watcher.events if event.name == "batch_size_retry"]
    assert retries
    found = retries[-1].to_batch_size  # type: ignore[attr-defined]
    assert trainer.state.train_batch_size == found < 40
    assert result.global_step == -(-NUM_SAMPLES // found)
    assert not [event for event in watcher.events if event.name == "run_failed"]
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() < 2**30, "nothing of the failed attempts is held"


def test_counting_tokens_without_padding_waits_for_nothing_in_a_step(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"include_num_input_tokens_seen": "non_padding"}
    make_trainer(tmp_path, **fields, max_steps=2).train()  # what is done once in a process
    waits = []
    for steps in (STEPS_AN_EPOCH // 3, STEPS_AN_EPOCH):
        trainer = make_trainer(tmp_path, **fields, max_steps=steps)
        with synchronisations() as found:
            torch.ones((), device="cuda").item()
            assert len(found) == 1, "the check sees what waits"
            trainer.train()
        waits.append(len(found))
    assert waits[0] == waits[1], found
    assert waits[0] < ACCUMULATION * (STEPS_AN_EPOCH // 3), found
    tokens = sum(int(sample["attention_mask"].sum()) for sample in samples())
    assert trainer.state.num_input_tokens_seen == tokens
