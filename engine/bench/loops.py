"""A training loop by hand, and the same loop in a `TrainingRun`: equal work, step for step."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from ...bus import EventBus
from ...schemas import TrainingArguments
from ..run import Run
from ..training_run import TrainingRun
from .equal_work import Work, make_loader, make_model, make_optimizer, make_schedule


class TurnsOver(BaseException):
    """Whoever measures has seen enough: the loop is left at the top of a step.

    No `Exception`, so that no engine takes it for a failure of the data.
    """


class StepWatch:
    """Called at the top of each optimizer step, inside of the data loader; this one does nothing.

    What a loop knows beside its times it writes into `facts`, as plain values.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.before_waiting: Callable[[], object] = lambda: None
        """Called before the loop is held at the top of a step: it ends what it left under way."""

    def __call__(self) -> None:
        """The next step begins."""


Loop = Callable[..., nn.Module | None]
"""`loop(work, watch, **options)`: does the work, calls the watch, gives the trained model."""


def raw(
    work: Work, watch: StepWatch, *, end_step: Callable[[Tensor], object] | None = None
) -> nn.Module:
    """A loop by hand that does what the Trainers do, and nothing else.

    Args:
        work: what is trained.
        watch: told of each step.
        end_step: called at the end of each with its loss; for what people add to such a loop.
    """
    model = make_model(work)
    optimizer = make_optimizer(work, model)
    schedule = make_schedule(work, optimizer)
    total = torch.zeros(())
    model.train()
    for number, batch in enumerate(make_loader(work, watch), 1):
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
        if end_step is not None:
            end_step(loss)
    return model


class UndisplayedRun(TrainingRun):
    """A `TrainingRun` without the display that it gets unless it has one."""

    def _open(self) -> None:
        Run._open(self)


def training_run(
    work: Work,
    watch: StepWatch,
    *,
    logging_steps: int = 0,
    displayed: bool = False,
    arguments: dict[str, Any] | None = None,
    callbacks: Iterable[Any] = (),
    subscribe: Callable[[EventBus], object] | None = None,
) -> nn.Module:
    """The loop by hand in a `TrainingRun`, as the README shows it; the run adds the losses up.

    Args:
        work: what is trained.
        watch: told of each step; its facts get the ledger.
        logging_steps: steps between two logs; 0 for none.
        displayed: leave the run the display that it makes for itself.
        arguments: of the run, over those of `run_arguments`.
        callbacks: handed to the run.
        subscribe: called with the run's bus before it is started.
    """
    model = make_model(work)
    optimizer = make_optimizer(work, model)
    schedule = make_schedule(work, optimizer)
    model.train()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(**run_arguments(work, folder, logging_steps) | (arguments or {}))
        bus = EventBus(drain_timeout=args.drain_timeout_s)
        if subscribe is not None:
            subscribe(bus)
        run = (TrainingRun if displayed else UndisplayedRun)(
            args,
            model=model,
            optimizer=optimizer,
            lr_scheduler=schedule,
            bus=bus,
            callbacks=callbacks,
        )
        with run, contextlib.suppress(TurnsOver):
            try:
                for batch in run.steps(make_loader(work, watch)):
                    loss = model(**batch)["loss"]
                    (loss / run.accumulation if work.accumulation > 1 else loss).backward()
                    if run.accumulating:
                        continue
                    norm = clip_grad_norm_(model.parameters(), work.max_grad_norm)
                    optimizer.step()
                    schedule.step()
                    model.zero_grad()
                    run.end_step(loss=loss.detach(), grad_norm=norm)
            finally:
                watch.facts["ledger"] = [row.model_dump() for row in run.ledger]
    return model


def run_arguments(work: Work, folder: str, logging_steps: int = 0) -> dict[str, Any]:
    """Length, accumulation and logs, and nothing attached; for stepbus and transformers."""
    return {
        "output_dir": folder,
        "num_train_epochs": 1,
        "gradient_accumulation_steps": work.accumulation,
        "seed": work.seed,
        "report_to": "none",
        "disable_tqdm": True,
        "logging_strategy": "steps" if logging_steps else "no",
        "logging_steps": logging_steps or 500,
        "save_strategy": "no",
        "eval_strategy": "no",
    }
