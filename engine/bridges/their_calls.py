"""Which call of transformers' Trainer a run belongs to, and what its control is asked for."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...bus import EventBus
from ...bus.diagnostics import get_logger
from ...bus.ranks import Ranks
from ...schemas.errors import StepbusError
from ..ending import AFTER_ERROR_S
from ..run_identity import RunIdentity
from ..summary import RunSummary
from .bridged_run import BridgedRun, new_identity
from .open_run import SILENT, OpenRun
from .their_control import TheirControl
from .their_state import beginning, checkpoint_of, mirror, resumed_identity
from .watching import find_trainer, watch

log = get_logger()


class Phase(enum.Enum):
    """Where their loop is."""

    OUTSIDE = 0
    STEPPING = 1
    """From the beginning of a step, or of training, to its end."""
    ACTING = 2
    """After a step or an epoch: flags that are set here are acted on."""
    ENDING = 3
    """After the last log."""


class TheirCalls(TheirControl):
    """Opens and closes the runs of a bridge; to be inherited beside their callback."""

    def __init__(self, bus: EventBus, *, owns_bus: bool) -> None:
        self.bus = bus
        """Where events go."""
        self.owns_bus = owns_bus
        self.summary: RunSummary | None = None
        """How the last training went."""
        self.control: Any = None
        self.phase = Phase.OUTSIDE
        self.acted = False
        """Whether something has been done since the step ended that may have changed the state."""
        self.final_logs: dict[str, Any] = {}
        self.logged_at = -1
        self.num_batches_done = 0
        self.num_batches: int | None = None
        self.learning_rate: float | None = None
        self.counts_tokens = False
        self._run: BridgedRun | None = None
        self._open = OpenRun(lambda: _last_error() or _left_without_a_word())
        self._depth = 0
        self._trainer: weakref.ref[Any] | None = None
        self._identity: RunIdentity | None = None
        self._has_trained = False
        self._suggested = False
        self._silence()
        # The last look at a training that nobody saw the end of.
        weakref.finalize(self, self._open.abandon)

    # Which call

    def find(self) -> None:
        """Finds the trainer that is calling, where it is another than before, and watches it."""
        known = self._trainer() if self._trainer is not None else None
        trainer = find_trainer(self)
        if trainer is None or trainer is known:
            return
        self._trainer = weakref.ref(trainer)
        self._identity, self._has_trained = None, False
        bridge = weakref.ref(self)

        def around() -> contextlib.AbstractContextManager[None]:
            found = bridge()
            return found._call() if found is not None else contextlib.nullcontext()

        watch(trainer, around)

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """One call of the trainer; those within it belong to its run."""
        outermost = not self._depth and self._run is None
        self._depth += 1
        try:
            yield
        except BaseException as error:
            if outermost and self._run is not None:
                self._run.fail(error)
            raise
        finally:
            self._depth -= 1
            if outermost:
                self._close_run()

    def hook_done(self, *, unless: bool = False) -> None:
        """Closes what a hook has opened, or ended, of a trainer whose calls are not watched."""
        run = self._run
        if run is not None and not self._depth and not unless and (run.over or not run.trains):
            self._close_run()

    def abandon(self, error: BaseException | None) -> None:
        """Ends an open run as failed."""
        if self._run is not None:
            self._run.fail(error or _left_without_a_word())
            self._close_run()

    def drain_s(self, error: BaseException | None) -> float:
        """How long a bus that is let go of may take, s."""
        seconds = self.bus.drain_timeout
        return seconds if error is None else min(seconds, AFTER_ERROR_S)

    # Its run

    def begin_training(self, args: Any, state: Any, control: Any, given: dict[str, Any]) -> None:
        """Opens the run of a training and says that it begins."""
        self.find()
        self.control = control
        run, size = self._run, self._run.state.train_batch_size if self._run else None
        retries = self._depth and args.auto_find_batch_size
        if run is not None and not (run.trains and retries and not run.over):
            # The end of that one was not seen, or it was an evaluation.
            if run.trains:
                run.fail(_left_without_a_word())
            self._close_run()
            run = None
        again = run is not None
        if run is None:
            run = self._open_run(args, state, self._next_identity(args, state), trains=True)
        mirror(state, run.state)
        run.at(state.global_step, state.epoch)
        self.phase, self.final_logs, self.logged_at = Phase.STEPPING, {}, state.global_step
        self.acted, self.num_batches_done, self._has_trained = False, 0, True
        self.counts_tokens = args.include_num_input_tokens_seen not in ("no", False)
        if again:
            sizes = {"from_batch_size": size or 0, "to_batch_size": state.train_batch_size or 0}
            run.emit("batch_size_retry", sizes)
        resumed = checkpoint_of(args, state) if state.global_step else None
        values = beginning(args, state, given.get("model"), given.get("train_dataloader"))
        run.begin(values | {"resumed_from": str(resumed) if resumed is not None else None})

    def open_session(self, args: Any, state: Any, *, new_rows: int = 0) -> BridgedRun:
        """Opens a session of the same run, for what comes outside of a training."""
        self.find()
        identity = self._identity or new_identity()
        run = self._open_run(args, state, identity, trains=False, new_rows=new_rows)
        self.phase = Phase.OUTSIDE
        return run

    def round_over(self, state: Any) -> None:
        """A step begins after something was done."""
        self.acted = False
        self.num_batches_done = 0
        if self._run is not None:
            self._run.link.pulse.busy = ""
            mirror(state, self._run.state)

    def _open_run(
        self, args: Any, state: Any, identity: RunIdentity, *, trains: bool, new_rows: int = 0
    ) -> BridgedRun:
        run = BridgedRun(
            self.bus,
            self.actions,
            output_dir=Path(args.output_dir),
            run_name=args.run_name,
            identity=identity,
            trains=trains,
            ranks=Ranks(args.process_index, args.world_size),
            vetoed=self._clear,
            scheduled=self._scheduled,
        )
        mirror(state, run.state, new_rows=new_rows)
        run.at(state.global_step, state.epoch)
        run.open()
        self._run = self._open.run = run
        self._open.pid = os.getpid()
        self._identity = run.identity
        for kind in ("step_begin", "substep_end", "pre_optimizer_step", "optimizer_step"):
            setattr(self, f"_{kind}", run.link.emitters[kind])
        self._step_end = run.link.emitters["step_end"]
        self._prediction_step = run.link.emitters["prediction_step"]
        self._suggest(args)
        return run

    def _next_identity(self, args: Any, state: Any) -> RunIdentity:
        folder = checkpoint_of(args, state) if state.global_step else None
        if folder is not None:
            return resumed_identity(Path(args.output_dir), folder)
        known = self._identity if not self._has_trained else None
        return known or new_identity()

    def _close_run(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        self._silence()
        self.phase = Phase.OUTSIDE
        self.control = None
        try:
            if run.trains and not run.over:
                run.fail(_last_error() or _left_without_a_word())
            run.close()
        finally:
            self._open.run = None
            self.summary = run.summary or self.summary

    def _silence(self) -> None:
        self._step_begin = self._substep_end = self._pre_optimizer_step = SILENT
        self._optimizer_step = self._step_end = self._prediction_step = SILENT

    def _suggest(self, args: Any) -> None:
        """Says so where their tracker and one on the bus would both log."""
        names = args.report_to if isinstance(args.report_to, list) else [args.report_to]
        here = {getattr(target, "tracker_name", "") for target in self.bus.subscribed}
        both = sorted(name for name in names if name and name in here)
        if both and not self._suggested:
            self._suggested = True
            log.warning(
                f"the Trainer's report_to and a subscriber on the bus both log to "
                f"{', '.join(both)}: give the TrainingArguments report_to='none'."
            )


def _last_error() -> BaseException | None:
    """What ended the program, where it came out of a train()."""
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    trace = error.__traceback__ if isinstance(error, BaseException) else None
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "train":
            return error
        trace = trace.tb_next
    return None


def _left_without_a_word() -> StepbusError:
    return StepbusError(
        "The Trainer's train() ended without train_end, and its exception was not seen: give the "
        "bridge to the Trainer when it is made, callbacks=[bridge]."
    )
