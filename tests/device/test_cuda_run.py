"""What only a CUDA device can show. Run by `make test-device`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stepbus import EventBus, TrainingArguments, TrainingRun, set_seed

DEVICE = torch.device("cuda", 0)


@contextmanager
def synchronisations() -> Iterator[list[str]]:
    """Collects every synchronising call that torch reports inside."""
    found: list[str] = []

    def note(message: Any, *_: Any, **__: Any) -> None:
        found.append(str(message))

    former, warnings.showwarning = warnings.showwarning, note
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            warnings.showwarning = former


def loader() -> torch.utils.data.DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(256, 16, generator=generator)
    samples: Any = [{"x": x, "y": x.sum().reshape(1)} for x in inputs]
    return torch.utils.data.DataLoader(samples, batch_size=16, shuffle=True, pin_memory=True)


def train(output_dir: Path, bus: EventBus | None = None, **arguments: Any) -> nn.Module:
    set_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.Dropout(0.1), nn.Linear(32, 1)).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    settings: dict[str, Any] = {
        "logging_steps": 8,
        "save_strategy": "no",
        "report_to": "none",
        "num_train_epochs": 2,
    } | arguments
    args = TrainingArguments(str(output_dir), **settings)
    with TrainingRun(args, model=model, optimizer=optimizer, bus=bus) as run:
        for batch in run.steps(loader()):
            loss = nn.functional.mse_loss(model(batch["x"]), batch["y"])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            run.end_step(loss=loss)
    return model


def test_step_end_carries_the_loss(tmp_path: Path) -> None:
    losses: list[float | None] = []
    bus = EventBus()
    bus.subscribe("step_end")(lambda event: losses.append(event.loss))
    train(tmp_path, bus)
    assert len(losses) == 32
    assert all(loss is not None and loss > 0 for loss in losses)


def test_a_step_that_nobody_listens_to_does_not_synchronise(tmp_path: Path) -> None:
    with synchronisations() as found:
        torch.ones((), device=DEVICE).item()
        seen_by_the_check = len(found)
        # The display takes step_end, and with it the loss; the printer takes logs alone.
        train(tmp_path, logging_strategy="no", disable_tqdm=True)
    assert seen_by_the_check == 1
    # The mean over the whole run, for the closing log, is the one read.
    assert len(found) - seen_by_the_check <= 3, found


def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    bus = EventBus()

    @bus.subscribe("step_end", delivery="gate")
    def stop(event: Any) -> None:
        if event.step == 11:
            bus.vote("save", reason="test")
            bus.vote("stop", reason="test")

    train(tmp_path / "broken", bus)
    resumed = train(
        tmp_path / "broken", resume_from_checkpoint=str(tmp_path / "broken" / "checkpoint-11")
    )
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_are_the_same_with_and_without_subscribers(tmp_path: Path) -> None:
    alone = train(tmp_path / "alone")
    bus = EventBus()
    for number in range(20):
        bus.subscribe("*", name=f"subscriber-{number}")(lambda event: None)
    heard = train(tmp_path / "heard", bus)
    for ours, theirs in zip(alone.parameters(), heard.parameters(), strict=True):
        assert torch.equal(ours, theirs)
