"""The engines under comparison, each doing the same work; with nothing, or with trackers attached.

Each is a `Loop` of `stepbus.engine.bench.loops`: it calls the watch at the top of each step, from
inside of its data loader.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import default_collate

from stepbus.engine.bench.equal_work import (
    Rows,
    Work,
    make_loader,
    make_model,
    make_optimizer,
    make_schedule,
)
from stepbus.engine.bench.loops import StepWatch, run_arguments, training_run

from .trackers import in_folder, offline

DRAIN_S = 5.0


def run(
    work: Work,
    watch: StepWatch,
    *,
    trackers: Sequence[str] = (),
    displayed: bool = False,
    logging_steps: int = 0,
) -> nn.Module:
    """A hand-written loop in stepbus's `TrainingRun`."""
    arguments: dict[str, Any] = {"report_to": list(trackers) or "none", "drain_timeout_s": DRAIN_S}
    if displayed:
        arguments |= {"disable_tqdm": False, "logging_strategy": "steps"}
    with workplace():
        return training_run(
            work, watch, displayed=displayed, logging_steps=logging_steps, arguments=arguments
        )


def stepbus_trainer(work: Work, watch: StepWatch, **options: Any) -> nn.Module:
    """stepbus's `Trainer`."""
    return _by_trainer("stepbus", work, watch, {"drain_timeout_s": DRAIN_S}, **options)


def transformers_trainer(work: Work, watch: StepWatch, **options: Any) -> nn.Module:
    """Hugging Face's `Trainer`."""
    return _by_trainer("transformers", work, watch, {}, **options)


def _by_trainer(
    package_name: str,
    work: Work,
    watch: StepWatch,
    more: dict[str, Any],
    *,
    trackers: Sequence[str] = (),
    displayed: bool = False,
    logging_steps: int = 0,
) -> nn.Module:
    """The same script for both: only where the names come from differs."""
    package = importlib.import_module(package_name)
    model = make_model(work)
    with workplace() as folder:
        arguments = run_arguments(work, str(folder), logging_steps) | more
        arguments |= trainer_arguments(work)
        if trackers:
            arguments["report_to"] = list(trackers)
        if displayed:
            arguments |= {"disable_tqdm": False, "logging_strategy": "steps"}
        trainer = package.Trainer(
            model=model,
            args=package.TrainingArguments(**arguments),
            train_dataset=Rows(work, watch),
            data_collator=default_collate,
        )
        if not displayed:
            # Nothing that was not asked for: not even what prints the logs.
            trainer.remove_callback(package.PrinterCallback)
        try:
            trainer.train()
        finally:
            if package_name == "stepbus":
                watch.facts["ledger"] = [row.model_dump() for row in trainer.ledger]
    return model


def trainer_arguments(work: Work) -> dict[str, Any]:
    """All of the work, and none that the loop by hand does not do."""
    return {
        "per_device_train_batch_size": work.batch_size,
        "learning_rate": work.learning_rate,
        "weight_decay": work.weight_decay,
        "max_grad_norm": work.max_grad_norm,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0,
        "data_seed": work.seed,
        "use_cpu": True,
        # No look at each loss for NaN, no pinning, no filter over each sample's columns.
        "logging_nan_inf_filter": False,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
    }


def lightning(
    work: Work, watch: StepWatch, *, trackers: Sequence[str] = (), logging_steps: int = 0
) -> nn.Module:
    """Lightning's `Trainer`, with automatic optimization."""
    from .lightning_module import make_trainer, wrap

    model = make_model(work)
    with workplace() as folder:
        module = wrap(work, model, logs=bool(logging_steps))
        trainer = make_trainer(work, folder, trackers, logging_steps)
        trainer.fit(module, make_loader(work, watch))
    return model


def ignite(
    work: Work, watch: StepWatch, *, trackers: Sequence[str] = (), logging_steps: int = 0
) -> nn.Module:
    """Ignite's `Engine` around the step by hand."""
    from ignite.engine import Engine, Events

    from .ignite_logging import attach

    model = make_model(work)
    optimizer = make_optimizer(work, model)
    schedule = make_schedule(work, optimizer)
    model.train()

    def step(engine: Any, batch: Any) -> Any:
        loss = model(**batch)["loss"]
        (loss / work.accumulation if work.accumulation > 1 else loss).backward()
        if engine.state.iteration % work.accumulation:
            return None
        norm = clip_grad_norm_(model.parameters(), work.max_grad_norm)
        optimizer.step()
        schedule.step()
        model.zero_grad()
        return loss.detach(), norm

    engine = Engine(step)
    total = torch.zeros(())

    @engine.on(Events.ITERATION_COMPLETED)
    def add_up(engine: Any) -> None:
        if engine.state.output is not None:
            total.add_(engine.state.output[0])

    with workplace() as folder:
        if logging_steps:
            attach(engine, optimizer, trackers, folder, logging_steps)
        engine.run(make_loader(work, watch), max_epochs=1)
    return model


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder of its own for whatever is written, with the trackers told to stay in it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, in_folder(Path(name)):
        offline(Path(name))
        yield Path(name)
