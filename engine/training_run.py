"""`TrainingRun`: state, emitters, votes and checkpoints around a training loop of your own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..bus import EventBus
from ..schemas import TrainingArguments
from ..schemas.errors import ArgumentError, StepbusError
from .callback_list import Callback, CallbackList
from .checkpoint import check_writable
from .environment import refuse_several_ranks
from .evaluating import Evaluate
from .front_end import FrontEnd
from .run import Run
from .run_identity import RunIdentity
from .signals import StopSignals


class TrainingRun(Run):
    """One run around a loop of your own: events out, votes in, logs, evaluations, checkpoints.

        with TrainingRun(args, model=model, optimizer=opt, lr_scheduler=sched) as run:
            for batch in run.steps(loader):
                loss = model(**batch).loss
                (loss / run.accumulation).backward()
                if run.accumulating:
                    continue
                opt.step(); sched.step(); opt.zero_grad()
                run.end_step(loss=loss)

    The maths is yours: precision, clipping, what a loss is. `steps` owns epochs, `max_steps`,
    skipping on resume and leaving on a stop; `end_step` counts the votes, logs, calls
    `evaluate() -> dict` and saves.

    Args:
        args: what the run obeys.
        model: what is trained; its weights go into checkpoints.
        optimizer: saved with it; its steps are announced.
        lr_scheduler: saved with it.
        evaluate: returns metrics by name; called when an evaluation is due or voted for. Random
            numbers that it draws do not change the training.
        callbacks: `TrainerCallback`s (on the training thread, in this order) and `Subscriber`s.
        bus: where events go; one of its own, at `run.bus`, by default. A bus that is not running
            is started and stopped by the run.
        processing_class: handed to callbacks of Hugging Face's shape.
        handle_signals: take Ctrl-C and SIGTERM as *save and stop*; on the main thread only.
        run_id: the name of the run; a made-up one by default. One that resumes from a checkpoint
            goes on with the run of that.

    Raises:
        ArgumentError: contradictory arguments, an output folder that cannot be written, several
            ranks; before anything is written.
    """

    def __init__(
        self,
        args: TrainingArguments | None = None,
        *,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        lr_scheduler: Any = None,
        evaluate: Evaluate | None = None,
        callbacks: Iterable[Any] = (),
        bus: EventBus | None = None,
        processing_class: Any = None,
        handle_signals: bool = False,
        run_id: str | None = None,
    ) -> None:
        refuse_several_ranks()
        args = args if args is not None else TrainingArguments()
        args.validate()
        if args.eval_strategy != "no" and evaluate is None:
            raise ArgumentError(
                f"eval_strategy is {str(args.eval_strategy)!r} and the run has no evaluate=: give "
                "a function that returns a dict of metrics, or eval_strategy='no'."
            )
        resumes = args.resume_from_checkpoint
        chosen = CallbackList(args, callbacks)
        chosen.check()
        check_writable(args.output_dir)
        super().__init__(
            args,
            FrontEnd(evaluate),
            model=model,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            callbacks=chosen,
            bus=bus or EventBus(drain_timeout=args.drain_timeout_s),
            owns_bus=bus is None,
            processing_class=processing_class,
            signals=StopSignals() if handle_signals else None,
            identity=RunIdentity(run_id, 1) if run_id and not resumes else None,
            resume_from=args.resume_from_checkpoint,
        )

    def add_callback(self, callback: Any) -> Callback:
        """Adds a `TrainerCallback` or a `Subscriber`, as a class or an instance."""
        if self._link is not None:
            raise StepbusError("Callbacks are added before the with block is entered.")
        added = self._callbacks.add(callback)
        self._callbacks.check()
        return added

    def _open(self) -> None:
        self._callbacks.add_display()
        super()._open()
