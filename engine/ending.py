"""How a run begins and ends: `train_begin`, the last merge point, `train_end`, the drain."""

from __future__ import annotations

import contextlib
import gc
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from ..bus import EventBus, Ledger, RunLink
from ..bus.diagnostics import get_logger
from ..bus.ledger_file import LedgerFile, write_ledger
from ..bus.run_account import RunAccount
from ..schemas import TrainerState, TrainingArguments
from ..schemas.strategies import steps_of
from .callback_list import CallbackList
from .environment import num_parameters
from .front_end import FrontEnd
from .hosting import Hosted
from .model_settings import model_settings
from .parts import Resumed
from .saving import Saving
from .signals import StopSignals
from .stepping import Plan
from .summary import RunSummary
from .working import Working

log = get_logger()

AFTER_ERROR_S = 10.0
"""How long a run that failed waits for its subscribers."""
LEAST_S = 1.0
"""What a wait gets in any case, for the subscribers that another one has kept waiting."""
TEARDOWN_S = 10.0
"""What of the time, at most half of it, is kept for teardown: mail is handled then as well, but one
that never answers must not leave the others a second to close their files."""


class Drain:
    """The seconds that a run which ends waits for its subscribers, all of its waits together."""

    def __init__(self, seconds: float) -> None:
        self._left_s = seconds
        self._kept_s = min(TEARDOWN_S, seconds / 2)
        self.account: RunAccount | None = None
        """What it takes is noted here, once there is a run."""

    def limit(self, seconds: float) -> None:
        """Leaves no more than so many seconds."""
        self._left_s = min(self._left_s, seconds)
        self._kept_s = min(self._kept_s, self._left_s / 2)

    def flush(self, bus: EventBus) -> None:
        """Waits until all that was emitted has been handled, and leaves some time for teardown."""
        with self.timed():
            bus.flush(max(self._left_s - self._kept_s, LEAST_S))

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Takes what the block takes off the seconds that are left, and notes it."""
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self._left_s -= seconds
            if self.account is not None:
                self.account.drained(seconds)

    @property
    def seconds(self) -> float:
        """What the next wait gets."""
        return max(self._left_s, LEAST_S)


class Ending:
    """Begins and ends one run, and sums it up."""

    def __init__(
        self,
        args: TrainingArguments,
        state: TrainerState,
        bus: EventBus,
        callbacks: CallbackList,
        signals: StopSignals | None,
        front_end: FrontEnd,
        hosted: Hosted | None = None,
    ) -> None:
        self._front_end = front_end
        self._args = args
        self._state = state
        self._bus = bus
        self._callbacks = callbacks
        self._signals = signals
        self._hosted = hosted
        self._link: RunLink | None = None
        self._holds_bus = False
        self._subscribed = False
        self._begun_s: float | None = None
        self._first_step = 0
        self._over = False
        self._frozen = False
        self._closed = False
        self._final_ledger: Ledger | None = None
        self.drain = Drain(args.drain_timeout_s)
        self.summary: RunSummary | None = None

    def start_bus(self) -> None:
        """Starts the bus where nobody else has; waits for the set-up of who listens.

        Raises:
            DeliveryError: a required subscriber could not be set up.
        """
        self._subscribed = True
        self._callbacks.subscribe(self._bus, trains=self._front_end.trains)
        self._bus.hold()
        self._holds_bus = True

    def opened(self, link: RunLink, working: Working, saving: Saving) -> None:
        """Takes the parts of a run that is open."""
        self._link = link
        self.drain.account = link.account
        self._working = working
        self._saving = saving

    def begin(self, length: Plan, model: nn.Module, resumed: Resumed | None) -> None:
        """Says that training starts."""
        args, state = self._args, self._state
        state.max_steps = length.max_steps
        state.num_train_epochs = int(-(-length.num_epochs // 1))
        known_epochs = length.num_epochs if length.steps_per_epoch else 0.0
        state.logging_steps = steps_of(args.logging_steps, length.max_steps)
        if args.eval_steps is not None:
            state.eval_steps = steps_of(args.eval_steps, length.max_steps)
        state.save_steps = steps_of(args.save_steps, length.max_steps)
        state.train_batch_size = self._front_end.train_batch_size or args.train_batch_size
        if self._hosted is None:
            # The heap of a host is its own, and its loop would stand still for it.
            gc.collect()
            gc.freeze()
            self._frozen = True
        self._begun_s = time.perf_counter()
        self._first_step = state.global_step
        self._open_link().reset_flags("stop")
        self._open_link().emit(
            "train_begin",
            {
                "arguments": args.frozen_copy(),
                "run_name": args.run_name,
                "output_dir": str(args.output_dir),
                "model": type(model).__name__,
                "num_parameters": num_parameters(model),
                "model_settings": model_settings(model),
                "max_steps": length.max_steps,
                "num_train_epochs": known_epochs,
                "steps_per_epoch": length.steps_per_epoch,
                "resumed_from": str(resumed.folder) if resumed is not None else None,
                "reporting": self._callbacks.reporting,
            },
        )

    @property
    def unfinished(self) -> bool:
        """Whether the loop has begun and `finish` was not called."""
        return self._begun_s is not None and not self._over

    def finish(self) -> None:
        """The last merge point, the closing figures, `train_end`."""
        link, state = self._open_link(), self._state
        link.pulse.beat_s = None
        self._obey_signal()
        waiting_since_s = time.perf_counter()
        self.drain.flush(self._bus)
        # What subscribers have still to do is no training.
        waited_s = time.perf_counter() - waiting_since_s
        self._working.histograms.emit()
        self._working.artifacts.emit()
        self._working.watch.settle()
        self._working.rounds.hold("train_end", stops=False)
        steps = state.global_step - self._first_step
        figures = self._working.acting.closing_figures(
            self._begun_s or 0.0,
            steps,
            self._working.stepping.num_samples,
            waited_s=waited_s,
        )
        self._front_end.log(figures)
        if self._args.load_best_model_at_end:
            self._saving.load_best()
        stop = self._working.rounds.stop
        stopped = stop is not None and not stop.scheduled and state.global_step < state.max_steps
        values = {
            "status": "stopped" if stopped else "finished",
            "reason": stop.reason if stop and stopped else "",
            "stopped_by": stop.voters if stop and stopped else "",
            "metrics": dict(figures),
        }
        self._over = True
        link.emit("train_end", values)
        self._sum_up(str(values["status"]), str(values["reason"]), dict(figures))

    def fail(self, error: BaseException) -> None:
        """Says that an exception left the loop; after `train_end`, only ends the waiting sooner."""
        hurried = self._signals is not None and self._signals.repeated
        self.drain.limit(LEAST_S if hurried else AFTER_ERROR_S)
        link = self._open_link()
        link.pulse.beat_s = None
        if self._over:
            return
        self._over = True
        self._working.watch.catch_up()
        self._working.artifacts.emit()
        text = "".join(traceback.format_exception(error))
        values = {"error": type(error).__name__, "message": str(error), "traceback": text}
        link.emit("run_failed", values, note=error)
        self._sum_up("failed", f"{type(error).__name__}: {error}", {})

    def abandon(self) -> None:
        """Has the run end without `train_end` and without `run_failed`."""
        self._over = True
        self._open_link().pulse.beat_s = None

    def take_leave(self) -> None:
        """Delivers what is left, closes the run, and completes the summary."""
        self._obey_signal()
        link = self._link
        if link is not None:
            link.pulse.beat_s = None
            self.drain.flush(self._bus)
            # What callbacks asked for at the very end goes on record as too late.
            link.collect_gate_votes()
            self._closed = True
            left = self._bus.close_run(link)
            self._working.rounds.close(left)
            if left:
                # The run's own subscribers, which leave a bus that goes on, get these verdicts too.
                self.drain.flush(self._bus)
        self._let_go(self.drain.seconds)
        if link is not None:
            self._final_ledger = self.ledger
            if self._begun_s is not None:
                self._saving.rotate()
            self._complete_summary()

    def close_bus(self, *, for_good: bool) -> None:
        """Ends what `take_leave` may have left when it was interrupted; waits for little."""
        if self._link is not None and not self._closed:
            self._closed = True
            self._bus.close_run(self._link)
        self._let_go(LEAST_S)
        if self._subscribed:
            self._callbacks.unsubscribe()
        if for_good:
            self._bus.close()
        if self._frozen:
            gc.unfreeze()

    def _let_go(self, seconds: float) -> None:
        if self._holds_bus:
            self._holds_bus = False
            with self.drain.timed():
                self._bus.let_go(seconds)

    @property
    def ledger(self) -> Ledger:
        """What the run, and each subscriber, cost so far."""
        if self._final_ledger is not None:
            return self._final_ledger
        return self._bus.ledger_of(self._link) if self._link is not None else self._bus.ledger

    def _obey_signal(self) -> None:
        """After a signal, or when the host was cancelled, waits for no longer than that leaves."""
        if self._hosted is not None:
            left_s = self._hosted.left_s()
            if left_s is not None:
                self.drain.limit(left_s)
        if self._signals is not None:
            left_s = self._signals.left_s(self._args.preemption_budget_s)
            if left_s is not None:
                self.drain.limit(left_s)
            if self._signals.repeated:
                # Its KeyboardInterrupt is lost where it comes inside of a finalizer, as the workers
                # of a data loader have them: Python prints what is raised there, and goes on.
                self.drain.limit(LEAST_S)

    def _sum_up(self, status: str, reason: str, metrics: dict[str, Any]) -> None:
        begun_s = self._begun_s
        self.summary = RunSummary(
            status=status,
            reason=reason,
            global_step=self._state.global_step,
            runtime_s=time.perf_counter() - begun_s if begun_s is not None else 0.0,
            metrics=metrics,
            output_dir=str(self._args.output_dir),
            trackers=tuple(self._callbacks.trackers),
            non_finite=dict(self._working.watch.counts),
        )

    def _complete_summary(self) -> None:
        if self.summary is not None:
            self.summary = self.summary.completed(
                checkpoints=tuple(str(path) for path in self._saving.checkpoints()),
                best_checkpoint=self._state.best_model_checkpoint,
                ledger=self.ledger,
            )
            if self._begun_s is not None:
                self._save_ledger(self.summary)
            troubles = self.summary.ledger.troubles
            if troubles:
                log.warning("\n  ".join(["what was off in this run:", *troubles]))

    def _save_ledger(self, summary: RunSummary) -> None:
        """Leaves the ledger in the run's folder, beside `run.json`; a full disk is only said."""
        document = LedgerFile(
            written_at=time.time(),
            status=summary.status,
            reason=summary.reason,
            global_step=summary.global_step,
            runtime_s=summary.runtime_s,
            ledger=summary.ledger,
        )
        try:
            write_ledger(Path(summary.output_dir), document)
        except OSError as error:
            log.error(f"the ledger could not be written to {summary.output_dir}: {error}")

    def _open_link(self) -> RunLink:
        assert self._link is not None
        return self._link
