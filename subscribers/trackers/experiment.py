"""What trackers of experiments share: which run, when it opens, what it gets, how it ends."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ...bus.diagnostics import get_logger
from ...bus.shapes import both_shapes
from ...schemas import (
    Artifact,
    Event,
    Histogram,
    InitEnd,
    Log,
    Predict,
    RunFailed,
    Save,
    TrainBegin,
    TrainEnd,
)
from ...schemas.errors import DeliveryError, UnreachableError
from .experiment_hooks import ExperimentHooks
from .experiment_run import ExperimentRun, RunStatus, flat, run_of_event
from .known_runs import KnownRuns

log = get_logger()

MAX_EARLY = 1_000
"""Logs kept until a run says where they belong."""
CLOSING = frozenset(
    "train_runtime train_samples_per_second train_steps_per_second train_loss total_flos".split()
)
"""Figures of a whole training, logged once at its end."""


class ExperimentTracker(ExperimentHooks):
    """The base of trackers that keep parameters, metrics and files by run.

    It turns events into calls of a few hooks, all in the tracker's own thread: `start`, then
    `log_params`, `log_metrics` and the others in the order of the events, then `finish`. A hook
    that raises is retried where the class says so (`retries`) and otherwise reported; the run goes
    on. A run is opened when its training begins, or at the first value that is logged outside of
    one, and finished when the session ends: an evaluation after the training is in the same run.

    Several runs at once, on one bus, have one of it each.

    A tracker of your own is a subclass with `tracker_name`, `start` and `log_metrics`, and what
    else it can do. It calls the methods of client objects, never module-level functions, which in
    several trackers depend on the thread. A constructor calls `super().__init__()` and has a
    `made_with` beside it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: KnownRuns | None = None
        self._places: dict[str, InitEnd] = {}
        self._early: deque[Log] = deque(maxlen=MAX_EARLY)
        self._training = False
        self._status: RunStatus | None = None
        self._has_upto = -1
        self._kept: dict[str, tuple[Save, contextlib.ExitStack]] = {}
        self._beside: dict[str, Self] = {}
        self._flushed_s = 0.0
        self._newest: Event | None = None
        """The newest event of those that are collected."""

    def made_with(self) -> Mapping[str, Any] | None:
        """Nothing, for one without a constructor of its own."""
        return {} if type(self).__init__ is ExperimentTracker.__init__ else None

    # What the bus asks

    def caught_up(self) -> float | None:
        """Flushes what was collected, unless that was done a moment ago."""
        lefts = [other.caught_up() for other in self._beside.values()]
        if self._collecting_s is not None:
            left_s = self._flushed_s + self.flush_every_s - time.monotonic()
            if left_s > 0 and self._training:
                lefts.append(left_s)
            else:
                self._flush()
        return min((left for left in lefts if left is not None), default=None)

    def secure(self) -> float | None:
        """Vouches for what came before that which is only collected."""
        found = [self._collecting_s, *(other.secure() for other in self._beside.values())]
        return min((since for since in found if since is not None), default=None)

    def whereabouts(self) -> dict[str, str]:
        """Id, url and folder of the run."""
        return dict(self._found)

    def learn_whereabouts(self, found: Mapping[str, str]) -> None:
        """Takes them."""
        self._found = dict(found)

    @both_shapes
    def on_init_end(self, event: InitEnd) -> None:
        """Notes where the run is, for logs outside of a training."""
        if event.rank == 0 and event.output_dir:
            self._places.pop(event.run_id, None)
            self._places[event.run_id] = event
            while len(self._places) > MAX_EARLY:
                del self._places[next(iter(self._places))]

    @both_shapes
    def on_train_begin(self, event: TrainBegin) -> None:
        """Opens the run, unless it is open, and logs its parameters."""
        if event.rank != 0:
            return
        into = self._of(event.run_id)
        if into is None and self._training:
            into = self._new_beside(event.run_id)
        (into or self)._begin(event)

    @both_shapes
    def on_log(self, event: Log) -> None:
        """Logs the values."""
        into = self._into(event)
        if into is not None:
            into._log(event, event.logs)
        elif event.rank == 0:
            self._early.append(event)

    @both_shapes
    def on_predict(self, event: Predict) -> None:
        """Logs the metrics, which no `log` event has."""
        into = self._into(event)
        if into is not None:
            into._log(event, event.metrics)

    @both_shapes
    def on_histogram(self, event: Histogram) -> None:
        """Logs a histogram that has finite values."""
        into = self._into(event)
        if into is not None and event.counts and into._is_new(event):
            into.log_histogram(event)
            into._have(event)

    @both_shapes
    def on_artifact(self, event: Artifact) -> None:
        """Logs a text, an image, a table or a file."""
        into = self._into(event)
        if into is None or not into._is_new(event):
            return
        if event.gone:
            # No failure of the tracker's, which would have it quarantined after some.
            into.say_once(f"{type(self).__name__}: {event.gone}")
        else:
            into._flush()
            into.log_artifact(event)
        into._have(event)

    @both_shapes
    def on_save(self, event: Save) -> None:
        """Uploads the checkpoint, or keeps it for the end."""
        into = self._into(event)
        if into is None or into.uploads == "no" or not into._is_new(event):
            return
        if into.uploads == "end":
            into._keep("best" if event.best else "last", event)
            return
        into._flush()
        into.upload_checkpoint(Path(event.path), event)
        into._have(event)

    @both_shapes
    def on_train_end(self, event: TrainEnd) -> None:
        """Notes the status; logs of later evaluations still come."""
        into = self._into(event)
        if into is not None:
            into._end(event)

    @both_shapes
    def on_run_failed(self, event: RunFailed) -> None:
        """Notes the status."""
        into = self._into(event)
        if into is not None:
            into._end(event)

    def close(self) -> None:
        """Finishes the run."""
        for other in self._beside.values():
            other.close()
        self._beside.clear()
        try:
            self._finish()
        finally:
            if self._early:
                log.warning(
                    f"{type(self).__name__}: {len(self._early)} logs came before any run had begun "
                    "and were not written."
                )
                self._early.clear()

    # Which run

    def _of(self, run_id: str) -> Self | None:
        """The tracker that has a run open: this one, or one beside it."""
        if self.run is not None and self.run.run_id == run_id:
            return self
        return self._beside.get(run_id)

    def _into(self, event: Event) -> Self | None:
        """The tracker that an event belongs to; opens the run if it has said where it is."""
        if event.rank != 0:
            return None
        into = self._of(event.run_id)
        place = self._places.get(event.run_id)
        if into is not None or place is None:
            return into
        if isinstance(event, TrainEnd | RunFailed):
            return None
        into = self._new_beside(event.run_id) if self._training else self
        into._begin(place)
        return into

    def _new_beside(self, run_id: str) -> Self:
        """Another one like it, for a run that goes on at the same time."""
        arguments = self.made_with()
        if arguments is None:
            raise DeliveryError(
                f"{type(self).__name__} is needed for two runs at once, and cannot be made again: "
                "give it a made_with() that returns its constructor's keyword arguments."
            )
        made = type(self)(**arguments)
        made.open()
        self._beside[run_id] = made
        return made

    def _begin(self, event: InitEnd | TrainBegin) -> None:
        if self.run is None or self.run.run_id != event.run_id:
            self._finish()
            known = KnownRuns(Path(event.output_dir), self.tracker_name)
            run = run_of_event(event, known.where(event.run_id))
            place = self._places.get(event.run_id, event)
            self.start(run)
            self._known, self.run = known, run
            self._has_upto = known.newest(event) if event.again or place.again else -1
            known.remember(event.run_id, where=self._found)
        if isinstance(event, TrainBegin):
            self.run = run_of_event(event, self.run.known)
            self._training, self._status = True, None
        self._log_params(self.run)
        while self._early:
            early = self._early.popleft()
            if early.run_id in ("", event.run_id):
                self._log(early, early.logs)

    def _log_params(self, run: ExperimentRun) -> None:
        assert self._known is not None
        params, before = run.params, self._known.params(run.run_id)
        now = {name: repr(value) for name, value in flat(params).items()}
        changed = [name for name, text in now.items() if before.get(name) != text]
        if before and changed and not self.params_can_change:
            new = [name for name in changed if name not in before]
            others = ", ".join(sorted(set(changed) - set(new)))
            if others:
                self.say_once(
                    f"{type(self).__name__}: the run was resumed with other values of {others}; "
                    "the tracker keeps the first ones."
                )
            changed = new
        if changed:
            self._flush()
            self.log_params(params if not before else _only(params, changed))
            self._known.remember(run.run_id, params={**now, **before} if before else now)

    # What it gets

    def _is_new(self, event: Event) -> bool:
        """Whether the tracker has not had it from one that has died."""
        return event.seq < 0 or event.seq > self._has_upto

    def _have(self, event: Event) -> None:
        if self._collecting_s is not None:
            self._newest = event
        elif self._known is not None and self.remembers_place:
            self._known.handed_on(event)

    def _log(self, event: Log | Predict, values: Mapping[str, Any]) -> None:
        if not self._is_new(event):
            return
        at: dict[str, Any] = {"step": event.step, "epoch": event.epoch, "time": event.time}
        given = {name: value for name, value in values.items() if value is not None}
        ongoing = {self.key(k): v for k, v in given.items() if k not in CLOSING}
        closing = {self.key(k): v for k, v in given.items() if k in CLOSING}
        if ongoing:
            self.log_metrics(ongoing, **at)
        if closing:
            self.log_closing(closing, **at)
        self._have(event)

    def _flush(self) -> None:
        if self._collecting_s is not None:
            self.flush()
            self._collecting_s = None
            self._flushed_s = time.monotonic()
            newest, self._newest = self._newest, None
            if newest is not None:
                self._have(newest)

    # How it ends

    def _end(self, event: TrainEnd | RunFailed) -> None:
        self._training = False
        self._status = RunStatus.of(event)
        self._flush()
        if self.uploads == "end" and isinstance(event, TrainEnd) and self._is_new(event):
            self._upload_last(event)
        self._have(event)

    def _keep(self, which: str, event: Save) -> None:
        """Keeps a checkpoint from being rotated away until the training ends."""
        self._let_go(which)
        held = contextlib.ExitStack()
        lease = getattr(event, "lease", None)
        if lease is not None:
            held.enter_context(lease.hold(type(self).__name__))
        self._kept[which] = (event, held)

    def _let_go(self, which: str) -> None:
        _, held = self._kept.pop(which, (None, contextlib.ExitStack()))
        held.close()

    def _upload_last(self, event: TrainEnd) -> None:
        assert self.run is not None
        loads_best = bool(self.run.arguments.get("load_best_model_at_end"))
        folders = [Path(save.path) for save, _ in self._kept.values()]
        if loads_best and "best" in self._kept:
            folder: Path | None = Path(self._kept["best"][0].path)
        elif self._kept:
            folder = Path(max((save for save, _ in self._kept.values()), key=_step_of).path)
        else:
            folders = [p for p in self.run.output_dir.glob("checkpoint-*") if p.is_dir()]
            folder = max(folders, key=lambda path: path.stat().st_mtime, default=None)
        if folder is None:
            self.say_once(
                f"{type(self).__name__} was to upload the model at the end, and the run wrote no "
                "checkpoint: choose another save_strategy than 'no'."
            )
        else:
            self.upload_model(folder, event)
        for which in list(self._kept):
            self._let_go(which)

    def _finish(self) -> None:
        """Closes what is open in the tracker."""
        run, self.run = self.run, None
        for which in list(self._kept):
            self._let_go(which)
        if run is None:
            return
        status = self._status or RunStatus()
        if self._training:
            status = RunStatus("stopped", "it was left before it had ended")
        self._training, self._status = False, None
        try:
            try:
                self._flush()
            except UnreachableError:
                raise  # Nor would the end be heard.
            except Exception:
                self.finish(status)
                raise
            self.finish(status)
        finally:
            if self._known is not None:
                self._known.close()


def _step_of(event: Save) -> int:
    return event.step


def _only(params: Mapping[str, Any], names: list[str], before: str = "") -> dict[str, Any]:
    """The nested values whose flat name is among those given."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        path = f"{before}{name}"
        if path in names:
            found[name] = value
        elif isinstance(value, Mapping):
            inner = _only(value, names, f"{path}/")
            if inner:
                found[name] = inner
    return found
