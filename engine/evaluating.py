"""Evaluations: asked for by the schedule or by a vote, abandoned on a stop, best model noted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ..bus import RunLink
from ..schemas import TrainingArguments
from ..schemas.errors import ArgumentError
from .data_order import move, num_batches, num_samples
from .environment import device_of
from .front_end import FrontEnd
from .metric_buffer import MetricBuffer
from .rng import preserved_rng
from .rounds import Rounds, Unavailable

Evaluate = Callable[[], Mapping[str, Any]]


class EvaluationAbandoned(BaseException):
    """A stop was voted for while an evaluation ran; it leaves `evaluate()` and nothing else.

    No `Exception`, so that a loop which goes on after the error of one batch lets it pass.
    """


class Evaluating:
    """Runs the front end's `evaluate()` with everything around it."""

    def __init__(
        self,
        args: TrainingArguments,
        link: RunLink,
        model: nn.Module,
        front_end: FrontEnd,
        rounds: Rounds,
        metrics: MetricBuffer,
    ) -> None:
        self._args = args
        self._metrics = metrics
        self._link = link
        self._model = model
        self._front_end = front_end
        self._rounds = rounds
        self._rng = preserved_rng()
        self._running = False
        self._abandoned = False
        self._known_stop = False
        self._num_batches = 0
        self._num_samples = 0
        self.loader: Any = None
        """What the last evaluation went through."""

    @property
    def possible(self) -> bool:
        """Whether the front end has the means to evaluate."""
        return self._front_end.evaluates

    def run(
        self, *, may_be_best: bool = True, neutral: bool = True
    ) -> tuple[Mapping[str, Any], bool]:
        """Evaluates and notes the best; metrics and whether they are the best so far.

        Args:
            may_be_best: False for the evaluation before the first step.
            neutral: the generators go on afterwards as if nothing had been drawn, so that the
                weights do not depend on who votes.

        Raises:
            Unavailable: a stop that was voted for abandoned it.
            ArgumentError: it gave no metrics, or not the one for the best model.
        """
        metrics = self._call(neutral)
        if self._abandoned:
            raise Unavailable("abandoned: a stop was voted for")
        return metrics, may_be_best and self._note_best(metrics)

    def measure(self, evaluate: Evaluate) -> dict[str, Any]:
        """Calls the loop's own `evaluate`; its metrics, with their names and its speed, logged.

        Raises:
            ArgumentError: it gave no metrics.
        """
        started = time.perf_counter()
        values = evaluate()
        if self._abandoned:
            return {}
        metrics = prefixed(self._numbers(values))
        seconds = time.perf_counter() - started
        metrics.setdefault("eval_runtime", seconds)
        if self._num_batches:
            metrics.setdefault("eval_samples_per_second", self._num_samples / seconds)
            metrics.setdefault("eval_steps_per_second", self._num_batches / seconds)
        metrics["epoch"] = self._link.state.epoch
        self._front_end.log(metrics)
        self.announce(metrics)
        return metrics

    def _numbers(self, values: object) -> object:
        """The metrics with scalars of a device read, all of them in one go."""
        if not isinstance(values, Mapping):
            return values
        scalars = {
            name: value
            for name, value in values.items()
            if isinstance(value, torch.Tensor) and value.numel() == 1 and not value.is_cpu
        }
        numbers, _ = self._metrics.push(list(scalars.values()))
        found = dict(zip(scalars, numbers, strict=True))
        return {**values, **self._metrics.waits.fill(found, "an evaluation")}

    def announce(self, metrics: dict[str, Any]) -> None:
        """Says that an evaluation is done."""
        self._link.reset_flags("evaluate")
        self._link.emit("evaluate", {"metrics": metrics})
        if self._running:
            # What is asked for at the end of one data set comes after those that follow.
            self._known_stop = self._rounds.wants_stop()

    def _call(self, neutral: bool) -> Mapping[str, Any]:
        pulse = self._link.pulse
        self._num_batches = self._num_samples = 0
        self._running, self._abandoned = True, False
        # A stop that was asked for before comes after this evaluation, in the order of acting.
        self._known_stop = self._rounds.wants_stop()
        pulse.busy = "evaluating"
        try:
            with self._rng if neutral else contextlib.nullcontext(), self._modes_kept():
                return self._front_end.evaluate()
        except EvaluationAbandoned:
            return {}
        finally:
            self._running = False
            pulse.busy, pulse.beat_s = "", self._link.bus.clock.monotonic()

    @contextlib.contextmanager
    def _modes_kept(self) -> Iterator[None]:
        if not self._front_end.keeps_modes:
            yield
            return
        modes = [(module, module.training) for module in self._model.modules()]
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of an evaluation on the model's device; announces each.

        Within `evaluate()`, a stop that is voted for ends the evaluation before the next batch.
        """
        self.loader = loader
        device = device_of(self._model)
        total = num_batches(loader)
        emitter = self._link.emitters["prediction_step"]
        for done, batch in enumerate(loader, start=1):
            if self._running and self._rounds.wants_stop(except_for=self._known_stop):
                self._abandoned = True
                raise EvaluationAbandoned
            self._num_batches += 1
            self._num_samples += num_samples(batch)
            yield move(batch, device)
            if emitter.active:
                self._link.fire(emitter, {"batch": done, "num_batches": total})

    def _note_best(self, metrics: Mapping[str, Any]) -> bool:
        if self._args.metric_for_best_model is None:
            return False
        state = self._link.state
        value = self._value_to_compare(metrics)
        greater = bool(self._args.greater_is_better)
        best = state.best_metric
        if value != value or (best is not None and not (value > best if greater else value < best)):
            return False
        state.best_metric = value
        if self._args.save_strategy != "no" or not self._front_end.best_step_needs_saves:
            state.best_global_step = state.global_step
        return True

    def _value_to_compare(self, metrics: Mapping[str, Any]) -> float:
        name = f"eval_{str(self._args.metric_for_best_model).removeprefix('eval_')}"
        if name not in metrics:
            raise ArgumentError(
                f"metric_for_best_model is {name!r}, and evaluate() returned {', '.join(metrics)}: "
                "name one of these, or return it."
            )
        value: object = metrics[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ArgumentError(f"metric_for_best_model {name!r} is {value!r}: return a number.")
        return value


def prefixed(metrics: object) -> dict[str, Any]:
    """Metrics as numbers, each name with `eval_` before it."""
    if not isinstance(metrics, Mapping):
        raise ArgumentError(f"evaluate() returned {metrics!r}: return a dict of metrics by name.")
    return {
        name if name.startswith("eval_") else f"eval_{name}": _plain(name, value)
        for name, value in metrics.items()
    }


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.detach()
    item = getattr(value, "item", None)
    try:
        return item() if callable(item) else value
    except (RuntimeError, ValueError) as error:
        raise ArgumentError(
            f"evaluate() returned {name!r} with more than one value ({error}): return a number."
        ) from error
