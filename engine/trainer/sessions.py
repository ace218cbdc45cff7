"""Evaluations, predictions and logs outside of training: a session of the same run each."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, Self

from torch import nn

from ...bus import EventBus, Ledger
from ...bus.diagnostics import get_logger
from ...bus.subscriber import overridden_hooks
from ...schemas import ACTIONS, TrainerControl, TrainerState, TrainingArguments
from ..callback_list import CallbackList
from ..ending import AFTER_ERROR_S
from ..rng import preserved_rng
from ..run_identity import RunIdentity
from ..signals import StopSignals
from ..summary import RunSummary
from .columns import unwrapped
from .precision import autocast_forward, cast_for_evaluation, compute_dtype
from .trainer_run import TrainerFrontEnd, TrainerRun

log = get_logger()


class Sessions:
    """Opens runs for the `Trainer`, one at a time; to be inherited."""

    args: TrainingArguments
    model: nn.Module
    model_wrapped: nn.Module
    optimizer: Any
    lr_scheduler: Any
    processing_class: Any
    state: TrainerState
    is_in_train: bool
    bus: EventBus
    _callback_list: CallbackList

    def __init__(self) -> None:
        self._control = TrainerControl()
        self._run: TrainerRun | None = None
        self._identity: RunIdentity | None = None
        self._train_next: Literal["first", "again", "anew"] = "first"
        self._kept_open: list[contextlib.ExitStack] = []
        self._drain_s = 0.0
        """How long the end of a with block waits for subscribers."""
        self.summary: RunSummary | None = None
        """How the last training went."""
        self._last_ledger = Ledger()
        self._loaders: tuple[Any, Any] = (None, None)
        """Those that were trained and evaluated on last."""

    def __enter__(self) -> Self:
        """Keeps the bus running and the trackers open over several calls."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._callback_list.unsubscribe)
            self._callback_list.subscribe(self.bus)
            self.bus.hold()
            stack.callback(lambda: self.bus.let_go(self._drain_s))
            self._kept_open.append(stack.pop_all())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        seconds = self.args.drain_timeout_s
        self._drain_s = seconds if error is None else min(seconds, AFTER_ERROR_S)
        self._kept_open.pop().close()

    @property
    def control(self) -> TrainerControl:
        """The control that callbacks share."""
        return self._run.control if self._run is not None else self._control

    @control.setter
    def control(self, control: Any) -> None:
        self.control.adopt(control)

    @property
    def ledger(self) -> Ledger:
        """What the present run and each of its subscribers cost so far, or the last one's."""
        return self._run.ledger if self._run is not None else self._last_ledger

    @property
    def run_id(self) -> str:
        """The present run or the last one; before any, that of the first training, unless it
        resumes from a checkpoint, whose run it then goes on with."""
        if self._run is None and self._identity is None:
            self._identity = _new_identity()
        return self._run.run_id if self._run is not None else self._identity.run_id  # type: ignore[union-attr]

    def tracker(self, name: str) -> dict[str, str]:
        """Where a tracker writes: the id, url and folder of its run, as far as it has them and they
        are known by now; see `TrainingRun.tracker`.

        Args:
            name: as in `report_to`.

        Raises:
            ArgumentError: there is no such tracker.
        """
        return self._callback_list.whereabouts(name)

    @contextlib.contextmanager
    def _session(self, what: str) -> Iterator[TrainerRun]:
        """The open run, or one that is opened for the length of the block."""
        if self._run is not None:
            yield self._run
            return
        identity = self._identity or _new_identity()
        run = self._make_run(TrainerFrontEnd(self._as_trainer(), trains=False), identity=identity)
        with self._opened(run):
            yield run

    @contextlib.contextmanager
    def _opened(self, run: TrainerRun) -> Iterator[None]:
        try:
            with run:
                self._run = run
                self._identity = run.identity
                self._hand_over_flags(run)
                yield
        finally:
            if self._run is not None:
                self._loaders = run.loaders
                if run.trains:
                    # What was set before a session waits for a training.
                    self._control = run.control
                self.summary = run.summary or self.summary
            self._run = None
            self._last_ledger = run.ledger
            run.let_go()

    def _next_identity(self) -> RunIdentity:
        """The run that a training is of: that of evaluations before it, or a new one."""
        if self._identity is None or self._train_next == "anew":
            return _new_identity()
        again = self._train_next == "again"
        return self._identity._replace(attempt=self._identity.attempt + again)

    def _make_run(
        self,
        front_end: TrainerFrontEnd,
        *,
        identity: RunIdentity | None,
        signals: StopSignals | None = None,
        resume_from: str | bool | None = None,
    ) -> TrainerRun:
        return TrainerRun(
            self.args,
            front_end,
            loaders=self._loaders,
            model=self.model,
            optimizer=self.optimizer,
            lr_scheduler=self.lr_scheduler,
            callbacks=self._callback_list,
            bus=self.bus,
            processing_class=self.processing_class,
            signals=signals,
            state=self.state,
            identity=identity,
            resume_from=resume_from,
        )

    @contextlib.contextmanager
    def _evaluation_model(self) -> Iterator[nn.Module]:
        """The model that an evaluation calls, in the precision that it is to have."""
        args = self.args
        if not self.is_in_train:
            cast_for_evaluation(self.model, args, args.device)
        with autocast_forward(self.model, args.device, compute_dtype(args)):
            # Another model may have been put in the place of the one that was trained.
            same = unwrapped(self.model_wrapped) is unwrapped(self.model)
            yield self.model_wrapped if same else self.model

    def _announce_set_up(self) -> None:
        """Calls `on_init_end`; what it asks for waits for the first run."""
        context = {
            "model": self.model,
            "processing_class": self.processing_class,
            "optimizer": self.optimizer,
            "lr_scheduler": self.lr_scheduler,
            "train_dataloader": None,
            "eval_dataloader": None,
        }
        for callback in self._callback_list.in_gate:
            if "init_end" not in overridden_hooks(callback):
                continue
            name, before, returned = type(callback).__name__, self._control.flags, None
            try:
                with preserved_rng():
                    returned = callback.on_init_end(self.args, self.state, self._control, **context)
            except Exception:
                log.exception(f"{name}.on_init_end failed; the Trainer goes on without it")
            if returned is not None and hasattr(returned, "should_save"):
                self._control.adopt(returned)
            self._control.credit(name, before)

    def _hand_over_flags(self, run: TrainerRun) -> None:
        """Flags set before the run was open are votes for it; all of them stay visible."""
        if run.trains:
            for action, setter in self._control.standing():
                run.vote(action, voter=setter or "the script")
        for action, flag in zip(ACTIONS, self._control.flags, strict=True):
            if flag:
                run.control.show(action)

    def _as_trainer(self) -> Any:
        return self


def _new_identity() -> RunIdentity:
    return RunIdentity(uuid.uuid4().hex[:12], 1)
