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
from .data_order import move, num_batches
from .environment import device_of
from .rng import preserved_rng
from .rounds import Rounds

Evaluate = Callable[[], Mapping[str, Any]]


class EvaluationAbandoned(Exception):
    """A stop was voted for while an evaluation ran; it leaves `evaluate()` and nothing else."""


class Evaluating:
    """Runs the loop's own `evaluate()` with everything around it."""

    def __init__(
        self,
        args: TrainingArguments,
        link: RunLink,
        model: nn.Module,
        evaluate: Evaluate | None,
        rounds: Rounds,
        log: Callable[[dict[str, Any]], None],
    ) -> None:
        self._args = args
        self._link = link
        self._model = model
        self._evaluate = evaluate
        self._rounds = rounds
        self._log = log
        self._running = False

    @property
    def possible(self) -> bool:
        """Whether the loop gave the means to evaluate."""
        return self._evaluate is not None

    def run(self, *, by_vote: bool) -> tuple[dict[str, Any], bool] | None:
        """Evaluates, logs and notes the best; metrics and whether they are the best so far.

        None when a stop abandoned it. One that a vote asked for leaves the random number
        generators as they were, so that the weights do not depend on who votes.
        """
        assert self._evaluate is not None
        guard = preserved_rng() if by_vote else contextlib.nullcontext()
        self._link.pulse.busy = "evaluating"
        self._running = True
        started = time.perf_counter()
        try:
            with guard, self._modes_kept():
                metrics = prefixed(self._evaluate())
        except EvaluationAbandoned:
            return None
        finally:
            self._running = False
            self._link.pulse.busy = ""
            self._link.pulse.beat_s = self._link.bus.clock.monotonic()
        metrics.setdefault("eval_runtime", time.perf_counter() - started)
        metrics["epoch"] = self._link.state.epoch
        self._log(metrics)
        self._link.emit("evaluate", {"metrics": metrics})
        return metrics, self._note_best(metrics)

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
        device = device_of(self._model)
        total = num_batches(loader)
        emitter = self._link.emitters["prediction_step"]
        for done, batch in enumerate(loader, start=1):
            if self._running and self._rounds.wants_stop():
                raise EvaluationAbandoned
            yield move(batch, device)
            if emitter.active:
                self._link.fire(emitter, {"batch": done, "num_batches": total})

    def check_metric(self, metrics: Mapping[str, Any]) -> str:
        """The name of the metric for the best model.

        Raises:
            ArgumentError: the evaluation did not return it.
        """
        name = self._args.metric_for_best_model or "loss"
        name = name if name.startswith("eval_") else f"eval_{name}"
        if name not in metrics:
            raise ArgumentError(
                f"metric_for_best_model is {name!r}, and evaluate() returned {', '.join(metrics)}: "
                "name one of these, or return it."
            )
        return name

    def _note_best(self, metrics: Mapping[str, Any]) -> bool:
        if self._args.metric_for_best_model is None:
            return False
        state = self._link.state
        value = float(metrics[self.check_metric(metrics)])
        greater = bool(self._args.greater_is_better)
        best = state.best_metric
        if best is not None and not (value > best if greater else value < best):
            return False
        if value != value:
            return False
        state.best_metric = value
        state.best_global_step = state.global_step
        return True


def prefixed(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as numbers, each name with `eval_` before it."""
    if not isinstance(metrics, Mapping):
        raise ArgumentError(f"evaluate() returned {metrics!r}: return a dict of metrics by name.")
    return {
        name if name.startswith("eval_") else f"eval_{name}": _plain(value)
        for name, value in metrics.items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.item()
    item = getattr(value, "item", None)
    return item() if callable(item) else value


