"""What reaches a tracker: each event once, parameters where they have changed, batches in time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ...schemas import Event, Log, Predict
from .experiment_hooks import ExperimentHooks
from .experiment_run import ExperimentRun, flat
from .known_runs import KnownRuns

CLOSING = frozenset(
    "train_runtime train_samples_per_second train_steps_per_second train_loss total_flos".split()
)
"""Figures of a whole training, logged once at its end."""


class ExperimentValues(ExperimentHooks):
    """Hands values to the hooks, and remembers what the tracker has had."""

    def __init__(self) -> None:
        super().__init__()
        self._known: KnownRuns | None = None
        self._has_upto = -1
        self._flushed_s = 0.0
        self._newest: Event | None = None
        """The newest event of those that are collected."""

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
