"""A run that has got to a late step for real, quickly: the model is left out until then."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.utils import clip_grad_norm_

from stepbus import EventBus, TrainingArguments
from stepbus.engine.bench.equal_work import (
    Work,
    make_loader,
    make_model,
    make_optimizer,
    make_schedule,
)
from stepbus.engine.bench.loops import StepWatch, TurnsOver, UndisplayedRun, run_arguments

from .resident import now_mb

LOGGING_STEPS = 10


class Batches:
    """First so many empty batches, then those of the work; or empty ones all along."""

    def __init__(self, work: Work, watch: StepWatch, age: int, *, bare: bool) -> None:
        self._work = work
        self._watch = watch
        self._age = age
        self._bare = bare

    def __len__(self) -> int:
        return self._age + (10**9 if self._bare else self._work.steps)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        nothing: dict[str, Any] = {}
        for _ in range(self._age):
            yield nothing
        while self._bare:
            self._watch()
            yield nothing
        yield from make_loader(self._work, self._watch)


def aged(work: Work, watch: StepWatch, *, age: int, bare: bool = False) -> nn.Module:
    """A `TrainingRun` with a subscriber and logs, whose first `age` steps have no model in them.

    Args:
        work: what is trained from then on.
        watch: called from then on.
        age: steps before.
        bare: no later step has a model either.
    """
    model = make_model(work)
    optimizer = make_optimizer(work, model)
    schedule = make_schedule(work, optimizer)
    model.train()
    counted = 0

    def count(event: object) -> None:
        nonlocal counted
        counted += 1

    bus = EventBus(drain_timeout=5.0)
    bus.subscribe("step_end", "log", name="counter")(count)
    with tempfile.TemporaryDirectory() as folder:
        arguments = run_arguments(work, folder, LOGGING_STEPS) | {"drain_timeout_s": 5.0}
        args = TrainingArguments(**arguments)
        run = UndisplayedRun(args, model=model, optimizer=optimizer, lr_scheduler=schedule, bus=bus)
        with run:
            try:
                for batch in run.steps(Batches(work, watch, age, bare=bare)):
                    if not batch:
                        run.end_step(loss=0.5, grad_norm=1.0)
                        continue
                    loss = model(**batch)["loss"]
                    loss.backward()
                    norm = clip_grad_norm_(model.parameters(), work.max_grad_norm)
                    optimizer.step()
                    schedule.step()
                    model.zero_grad()
                    run.end_step(loss=loss.detach(), grad_norm=norm)
            except TurnsOver:
                pass
            watch.facts |= {
                "log_rows": len(run.state.log_history),
                "steps": run.state.global_step,
                "mb": now_mb(),
                "counted": counted,
            }
    return model
