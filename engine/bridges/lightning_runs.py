"""Which call of a Lightning trainer a run belongs to: its opening, its folder, its end."""

from __future__ import annotations

import functools
import os
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.hooks import RemovableHandle

from ...bus import EventBus, Lease
from ...bus.diagnostics import get_logger
from ...bus.ranks import Ranks
from ...schemas.errors import StepbusError
from ..run_identity import RunIdentity
from ..summary import RunSummary
from .bridged_run import BridgedRun, new_identity
from .lightning_logger import BusLogger
from .lightning_means import LightningMeans
from .lightning_state import beginning, folder_of, saved
from .open_run import SILENT, OpenRun

log = get_logger()

IDENTITY = "stepbus"
"""Under which a checkpoint names the run that wrote it."""
TRACKERS = {
    "TensorBoardLogger": "tensorboard",
    "WandbLogger": "wandb",
    "MLFlowLogger": "mlflow",
    "CometLogger": "comet_ml",
    "NeptuneLogger": "neptune",
}
"""Lightning's loggers, and what the trackers of the same service are called on the bus."""


class LightningRuns:
    """Opens and closes the runs of a bridge; to be inherited beside Lightning's callback."""

    def __init__(self, bus: EventBus, *, owns_bus: bool) -> None:
        super().__init__()
        self.bus = bus
        """Where events go."""
        self.owns_bus = owns_bus
        self.logger = BusLogger(self)
        """To be given to the trainer."""
        self.summary: RunSummary | None = None
        """How the last training went."""
        self.root: str | None = None
        self.begun = False
        self.in_step = False
        self.validating = False
        self.step = 0
        self._run: BridgedRun | None = None
        self._means: LightningMeans
        self._error: BaseException | None = None
        self._trainer: weakref.ref[Any] | None = None
        self._identity: RunIdentity | None = None
        self._resumed: RunIdentity | None = None
        self._has_trained = False
        self._said: set[str] = set()
        self._handles: list[RemovableHandle] = []
        self._saving: Callable[..., None] | None = None
        self._open = OpenRun(_unseen)
        self._silence()
        weakref.finalize(self, self._open.abandon)

    def found(self, trainer: Any) -> None:
        """Notes which trainer is calling; ends what another call has left open."""
        self.abandon(None)
        known = self._trainer() if self._trainer is not None else None
        if trainer is not known:
            self._trainer = weakref.ref(trainer)
            self._identity, self._has_trained = None, False
            if self.logger.bridge is self and self.root != trainer.default_root_dir:
                self.root = trainer.default_root_dir
        self._resumed, self._error = None, None

    def open_run(self, trainer: Any, *, trains: bool) -> BridgedRun:
        """Opens the run of a call, and announces it."""
        known = self._identity if not (trains and self._has_trained) else None
        identity = (self._resumed if trains else None) or known or new_identity()
        logs = any(other is self.logger for other in trainer.loggers)
        means = self._means = LightningMeans(trainer, logs=logs)
        run = means.run = BridgedRun(
            self.bus,
            means.actions,
            output_dir=folder_of(trainer, self.logger),
            identity=identity,
            trains=trains,
            ranks=Ranks(trainer.global_rank, trainer.world_size),
        )
        run.at(trainer.global_step, float(trainer.current_epoch))
        run.open()
        self._run = self._open.run = run
        self._open.pid = os.getpid()
        self._identity = run.identity
        self._has_trained = self._has_trained or trains
        self.begun = self.in_step = self.validating = False
        emitters = run.link.emitters
        self._step_begin, self._substep_end = emitters["step_begin"], emitters["substep_end"]
        self._pre_optimizer_step = emitters["pre_optimizer_step"]
        self._optimizer_step = emitters["optimizer_step"]
        self._step_end, self._prediction_step = emitters["step_end"], emitters["prediction_step"]
        self._watch_saves(trainer)
        self._advise(trainer, logs=logs)
        return run

    def begin_training(self, trainer: Any) -> None:
        """Says that training begins."""
        run = self._run
        if run is None:
            return
        self.begun, self.step = True, trainer.global_step
        values = beginning(trainer, self.logger.hyperparameters)
        state = run.state
        state.max_steps, state.num_train_epochs = values["max_steps"], values["num_train_epochs"]
        state.logging_steps = trainer.log_every_n_steps
        run.at(trainer.global_step, float(trainer.current_epoch))
        run.begin(values)
        optimizers = weakref.WeakSet(trainer.optimizers)
        run.link.follow_listeners(functools.partial(self._follow, optimizers))

    def finalized(self) -> None:
        """The last call of Lightning's; after a failure it is the only one."""
        self.fail(self._error)
        self._close_run()

    def fail(self, error: BaseException | None) -> None:
        """Says that an exception has left the trainer, where there is one."""
        if self._run is not None and error is not None:
            self._means.leave()
            self._run.fail(error)

    def abandon(self, error: BaseException | None) -> None:
        """Ends an open run as failed."""
        if self._run is not None:
            if not self._run.over:
                self.fail(error or self._error or _unseen())
            self._close_run()

    def logged(self, metrics: Mapping[str, Any], step: int | None) -> None:
        """Announces what Lightning logs, at the step that it counts by; votes are merged."""
        run = self._run
        if run is None:
            self._say(
                "nothing that is logged outside of a call of the Trainer, or without "
                "callbacks=[bridge], reaches the bus."
            )
            return
        own = run.state.__dict__
        at = own["global_step"]
        try:
            if step is not None:
                own["global_step"] = int(step)
            run.log(metrics)
        finally:
            own["global_step"] = at
        if self.begun and not self.validating and not run.over:
            run.asked.done("log", f"logged at step {at}")
            run.hold("log", only=())
        run.leave()

    def _close_run(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        self._silence()
        self._remove()
        self._means.leave()
        trainer = self._trainer() if self._trainer is not None else None
        if trainer is not None and vars(trainer).get("save_checkpoint") is self._saving:
            del trainer.save_checkpoint
        self._saving = None
        try:
            if run.trains and not run.over:
                run.finish(stopped=True)
            run.close()
        finally:
            self._open.run = None
            self.summary = run.summary or self.summary

    def _silence(self) -> None:
        self._step_begin = self._substep_end = self._pre_optimizer_step = SILENT
        self._optimizer_step = self._step_end = self._prediction_step = SILENT

    # What has no hook of Lightning's

    def _follow(self, optimizers: weakref.WeakSet[Any]) -> None:
        """An optimizer has a hook only while somebody listens."""
        if not self._optimizer_step.active:
            self._remove()
        elif not self._handles:
            self._handles = [each.register_step_post_hook(self._stepped) for each in optimizers]

    def _stepped(self, *_: Any) -> None:
        if self._optimizer_step.active:
            self._optimizer_step.link.fire(self._optimizer_step)

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _watch_saves(self, trainer: Any) -> None:
        """Whoever writes a checkpoint calls this method of the trainer's, with the path."""
        write, bridge = trainer.save_checkpoint, weakref.ref(self)

        @functools.wraps(write)
        def save_checkpoint(filepath: Any, *args: Any, **kwargs: Any) -> None:
            started = time.perf_counter()
            write(filepath, *args, **kwargs)
            found = bridge()
            if found is not None:
                found.saved(filepath, time.perf_counter() - started)

        self._saving = trainer.save_checkpoint = save_checkpoint

    def saved(self, filepath: Any, seconds: float) -> None:
        """Announces a checkpoint."""
        run = self._run
        trainer = self._trainer() if self._trainer is not None else None
        if run is None or trainer is None:
            return
        values = saved(trainer, filepath, seconds)
        if values["best"]:
            run.state.best_model_checkpoint = values["path"]
        run.emit("save", values, note=Lease())
        if self.begun and not run.over:
            run.hold("save", only=())
        run.leave()

    def _advise(self, trainer: Any, *, logs: bool) -> None:
        if not logs and trainer.state.fn == "fit":
            self._say("the Trainer's logs do not reach the bus: give it logger=bridge.logger.")
        here = {getattr(target, "tracker_name", "") for target in self.bus.subscribed}
        theirs = {TRACKERS.get(type(other).__name__, "") for other in trainer.loggers}
        for name in sorted(here & theirs - {""}):
            self._say(
                f"a logger of the Trainer and a subscriber on the bus both log to {name}: "
                "logger=bridge.logger alone would do."
            )

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            log.warning(line)


def _unseen() -> StepbusError:
    return StepbusError(
        "The Trainer's call ended without a word: neither its teardown nor on_exception came."
    )
