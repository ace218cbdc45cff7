"""What a tracker of experiments overrides, and what it may call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...bus.diagnostics import get_logger
from ...schemas import Artifact, Event, Histogram, Save
from ..reporter import Tracker, tracker_key
from .experiment_run import ExperimentRun, RunStatus

log = get_logger()

Value = float | int | bool | str
"""A logged value: a number, NaN and infinities among them, or a text."""


class ExperimentHooks(Tracker):
    """The side of an `ExperimentTracker` that its subclasses see."""

    prefers_process: ClassVar[bool] = True
    rewrites_keys: ClassVar[bool] = True
    """Whether its names are `eval/loss` and `train/loss`, or those that were logged."""
    params_can_change: ClassVar[bool] = True
    """Whether a parameter may be logged again with another value, as when a run is resumed."""
    flush_every_s: ClassVar[float] = 0.25
    """Of what is collected, at least so long between two calls of `flush`, s."""
    remembers_place: ClassVar[bool] = True
    """Whether what a hook was given is safe when it returns, though its process be killed."""
    uploads: Literal["no", "checkpoint", "end"] = "no"
    """Which checkpoints it uploads: none, each, or at the end of training the best where that is
    loaded, else the last."""

    def __init__(self) -> None:
        self.run: ExperimentRun | None = None
        """The run that is open in the tracker."""
        self._found: dict[str, str] = {}
        self._said: set[str] = set()
        self._collecting_s: float | None = None
        """Since when values are collected and not handed on (monotonic)."""

    # For subclasses to write

    def start(self, run: ExperimentRun) -> None:
        """Opens the run in the tracker: the one of `run.known` if it has one, else a new one.

        Says with `self.found(id=..., url=..., folder=...)` where it is.
        """
        raise NotImplementedError

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Takes parameters, nested as they are (`flat` has them by one name each). Called once for
        each run, and when it is resumed with those that have changed."""
        self.cannot("parameters")

    def log_metrics(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Takes values by name, at an optimizer step and a wall time in seconds since 1970."""
        raise NotImplementedError

    def log_closing(
        self, metrics: Mapping[str, Value], *, step: int, epoch: float, time: float
    ) -> None:
        """Takes the figures of the whole training, as `train_runtime`; as metrics by default."""
        self.log_metrics(metrics, step=step, epoch=epoch, time=time)

    def log_histogram(self, event: Histogram) -> None:
        """Takes a histogram that has values, named `event.tag`."""
        self.cannot("histograms")

    def log_artifact(self, event: Artifact) -> None:
        """Takes a text, an image, a table or a file, named `event.tag`; `artifact_file.file_of` has
        each of them as a file."""
        self.cannot(f"{event.kind}s")

    def upload_checkpoint(self, folder: Path, event: Save) -> None:
        """Uploads a checkpoint, which stays in place until this returns; see `uploads`."""
        self.cannot("checkpoints")

    def upload_model(self, folder: Path, event: Event) -> None:
        """Uploads the checkpoint that the training ended with; see `uploads`."""
        self.cannot("models")

    def flush(self) -> None:
        """Hands on what the hooks have only collected, which say so with `self.collected()`. Called
        before any hook but `log_metrics` and `log_histogram`, and once nothing more comes, at most
        every `flush_every_s`."""

    def finish(self, status: RunStatus) -> None:
        """Closes the run in the tracker; all that it was given is complete when this returns."""

    # For subclasses to call

    def found(self, **where: str | None) -> None:
        """Says where the run is: `id`, `url`, `folder`; those that are None are left out."""
        self._found = {name: str(value) for name, value in where.items() if value}

    def key(self, name: str) -> str:
        """The tracker's name of a logged value."""
        return tracker_key(name) if self.rewrites_keys else name

    def cannot(self, what: str) -> None:
        """Says once what the tracker does not take."""
        self.say_once(f"{type(self).__name__} takes no {what}: they are left out.")

    def say_once(self, line: str) -> None:
        """Says a line as a warning, once."""
        if line not in self._said:
            self._said.add(line)
            log.warning(line)

    def collected(self) -> None:
        """Says that a hook has kept something for `flush`."""
        if self._collecting_s is None:
            self._collecting_s = time.monotonic()
