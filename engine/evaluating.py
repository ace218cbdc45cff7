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
from .rng import preserved_rng
from .rounds import Rounds, Unavailable

Evaluate = Callable[[], Mapping[str, Any]]


class EvaluationAbandoned(BaseException):
    """A stop was voted for while an evaluation ran; it leaves `evaluate()` and nothing else.

    No `Exception`, so that a loop which goes on after the error of one batch lets it pass.
    """


class Evaluating:
    """Runs the loop's own `evaluate()` with everything around it."""

    def __init__(
        self,
        args: TrainingArguments,
        link: RunLink,
        model: nn.Module,
        evaluate: Evaluate | None,
        rounds: Rounds,
    ) -> None:
        self._args = args
        self._link = link
        self._model = model
        self._evaluate = evaluate
        self._rounds = rounds
        self._rng = preserved_rng()
        self._running = False
        self._abandoned = False
        self._num_batches = 0
        self._num_samples = 0
        self.log: Callable[[dict[str, Any]], None] = lambda logs: None
        """What to do with metrics to be logged."""
        self.loader: Any = None
        """What the last evaluation went through."""

    @property
    def possible(self) -> bool:
        """Whether the loop gave the means to evaluate."""
        return self._evaluate is not None

    def run(self, *, may_be_best: bool = True) -> tuple[dict[str, Any], bool]:
        """Evaluates, logs and notes the best; metrics and whether they are the best so far.

        The generators go on afterwards as if nothing had been drawn, so that the weights depend
        neither on who votes nor on how often is evaluated.

        Raises:
            Unavailable: a stop that was voted for abandoned it.
            ArgumentError: it gave no metrics, or not the one for the best model.
        """
        started = time.perf_counter()
        values = self._call()
        if self._abandoned:
            raise Unavailable("abandoned: a stop was voted for")
        metrics = prefixed(values)
        seconds = time.perf_counter() - started
        metrics.setdefault("eval_runtime", seconds)
        if self._num_batches:
            metrics.setdefault("eval_samples_per_second", self._num_samples / seconds)
            metrics.setdefault("eval_steps_per_second", self._num_batches / seconds)
        metrics["epoch"] = self._link.state.epoch
        self.log(metrics)
        self._link.emit("evaluate", {"metrics": metrics})
        return metrics, may_be_best and self._note_best(metrics)

    def _call(self) -> Mapping[str, Any]:
        assert self._evaluate is not None
        pulse = self._link.pulse
        self._num_batches = self._num_samples = 0
        self._running, self._abandoned = True, False
        pulse.busy = "evaluating"
        try:
            with self._rng, self._modes_kept():
                return self._evaluate()
        except EvaluationAbandoned:
            return {}
        finally:
            self._running = False
            pulse.busy, pulse.beat_s = "", self._link.bus.clock.monotonic()

    @contextlib.contextmanager
    def _modes_kept(self) -> Iterator[None]:
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
            if self._running and self._rounds.wants_stop():
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
        state.best_global_step = state.global_step
        return True

    def _value_to_compare(self, metrics: Mapping[str, Any]) -> float:
        name = f"eval_{str(self._args.metric_for_best_model).removeprefix('eval_')}"
        if name not in metrics:
            raise ArgumentError(
                f"metric_for_best_model is {name!r}, and evaluate() returned {', '.join(metrics)}: "
                "name one of these, or return it."
            )
        value = metrics[name]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ArgumentError(f"metric_for_best_model {name!r} is {value!r}: return a number.")
        return float(value)


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
