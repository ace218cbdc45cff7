"""The loops under comparison: by hand, with a `TrainingRun`, with stepbus's and HF's `Trainer`."""

from __future__ import annotations

import importlib
import importlib.util
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import default_collate

from .equal_work import Rows, Work, make_loader, make_model, make_optimizer, make_schedule

OnStep = Callable[[], None]
Loop = Callable[[Work, OnStep], nn.Module]
"""Does the work, calls back at the top of each optimizer step, gives the trained model."""


def raw(work: Work, on_step: OnStep) -> nn.Module:
    """A loop by hand that does what the Trainers do, and nothing else."""
    model = make_model(work)
    optimizer = make_optimizer(work, model)
    schedule = make_schedule(work, optimizer)
    total = torch.zeros(())
    model.train()
    for number, batch in enumerate(make_loader(work, on_step), 1):
        loss = model(**batch)["loss"]
        if work.accumulation > 1:
            loss = loss / work.accumulation
        loss.backward()
        total += loss.detach()
        if number % work.accumulation:
            continue
        clip_grad_norm_(model.parameters(), work.max_grad_norm)
        optimizer.step()
        schedule.step()
        model.zero_grad()
    return model


def training_run(work: Work, on_step: OnStep) -> nn.Module:
    """The loop by hand in a `TrainingRun`, as the README shows it; the run adds the losses up."""
    from stepbus import TrainingArguments, TrainingRun

    model = make_model(work)
    optimizer = make_optimizer(work, model)
    schedule = make_schedule(work, optimizer)
    model.train()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(**_run_arguments(work, folder))
        with TrainingRun(args, model=model, optimizer=optimizer, lr_scheduler=schedule) as run:
            for batch in run.steps(make_loader(work, on_step)):
                loss = model(**batch)["loss"]
                (loss / run.accumulation if work.accumulation > 1 else loss).backward()
                if run.accumulating:
                    continue
                norm = clip_grad_norm_(model.parameters(), work.max_grad_norm)
                optimizer.step()
                schedule.step()
                model.zero_grad()
                run.end_step(loss=loss.detach(), grad_norm=norm)
    return model


def stepbus_trainer(work: Work, on_step: OnStep) -> nn.Module:
    """stepbus's `Trainer`."""
    return _by_trainer(importlib.import_module("stepbus"), work, on_step)


def transformers_trainer(work: Work, on_step: OnStep) -> nn.Module:
    """Hugging Face's `Trainer`."""
    return _by_trainer(importlib.import_module("transformers"), work, on_step)


def _by_trainer(package: Any, work: Work, on_step: OnStep) -> nn.Module:
    """The same script for both: only where the names come from differs."""
    model = make_model(work)
    with tempfile.TemporaryDirectory() as folder:
        trainer = package.Trainer(
            model=model,
            args=package.TrainingArguments(**_trainer_arguments(work, folder)),
            train_dataset=Rows(work, on_step),
            data_collator=default_collate,
        )
        # Nothing attached: not even what prints the logs, of which there are none.
        trainer.remove_callback(package.PrinterCallback)
        trainer.train()
    return model


def _run_arguments(work: Work, folder: str) -> dict[str, Any]:
    """Length and accumulation, and nothing attached."""
    return {
        "output_dir": folder,
        "num_train_epochs": 1,
        "gradient_accumulation_steps": work.accumulation,
        "seed": work.seed,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "eval_strategy": "no",
    }


def _trainer_arguments(work: Work, folder: str) -> dict[str, Any]:
    """All of the work, and none that the loop by hand does not do."""
    return _run_arguments(work, folder) | {
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


LOOPS: dict[str, Loop] = {
    "raw": raw,
    "TrainingRun": training_run,
    "stepbus.Trainer": stepbus_trainer,
    "transformers.Trainer": transformers_trainer,
}


def is_available(name: str) -> bool:
    """Whether a loop can run here: the package it stands on is installed."""
    package, dot, _ = name.partition(".")
    return not dot or importlib.util.find_spec(package) is not None
