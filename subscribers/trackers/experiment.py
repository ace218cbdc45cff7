"""What trackers of experiments share: which run, when it opens, what it gets, how it ends."""

from __future__ import annotations

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
from ...schemas.errors import DeliveryError
from .experiment_session import ExperimentSession
from .experiment_values import CLOSING

__all__ = ["CLOSING", "ExperimentTracker"]

log = get_logger()

MAX_EARLY = 1_000
"""Logs kept until a run says where they belong."""


class ExperimentTracker(ExperimentSession):
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
        self._places: dict[str, InitEnd] = {}
        self._early: deque[Log] = deque(maxlen=MAX_EARLY)
        self._beside: dict[str, Self] = {}

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
        (into or self)._open(event)

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
            into._kept.keep(event)
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
        into._open(place)
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

    def _open(self, event: InitEnd | TrainBegin) -> None:
        place = self._places.get(event.run_id, event)
        self._begin(event, again=event.again or place.again)
        while self._early:
            early = self._early.popleft()
            if early.run_id in ("", event.run_id):
                self._log(early, early.logs)
