"""The Trainer's evaluations and predictions."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from torch import nn

from ..metric_buffer import MetricBuffer
from .collected import Batch, Collected, checked, closing_metrics, length_of, main_input_of
from .gathering import find_batch_size, speed_metrics
from .prediction_step import PredictionStep
from .predictions import EvalLoopOutput, EvalPrediction, PredictionOutput

_NO_MORE = object()


class OpenRun(Protocol):
    """What an evaluation needs of the run that it is part of."""

    @property
    def metrics(self) -> MetricBuffer:
        """On whose account it waits for what is on the device."""

    def evaluation_steps(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches on the model's device, each announced; leaves on a stop voted for."""

    def announce(self, name: str, fields: dict[str, Any]) -> object:
        """Says what happened."""


class TrainerEvaluation(PredictionStep):
    """`evaluate`, `predict` and what they are made of, for the `Trainer` to inherit."""

    args: Any
    optimizer: Any
    eval_dataset: Any
    compute_metrics: Callable[..., Any] | None
    preprocess_logits_for_metrics: Callable[[Any, Any], Any] | None
    get_eval_dataloader: Callable[..., Iterable[Any]]
    get_test_dataloader: Callable[..., Iterable[Any]]
    log: Callable[..., None]
    _evaluation_model: Callable[[], AbstractContextManager[nn.Module]]
    _session: Callable[[str], AbstractContextManager[OpenRun]]

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, Any]:
        """Evaluates, logs the metrics and announces them.

        Args:
            eval_dataset: instead of the Trainer's own. Of a dict each dataset is evaluated on its
                own, with its name in the prefix (`eval_<name>_loss`).
            ignore_keys: outputs of the model that are not gathered.
            metric_key_prefix: what the names of all metrics begin with.

        Returns:
            The metrics by name, and `epoch`; over a dict of datasets those of all of them.

        Raises:
            ArgumentError: `compute_metrics` gave no dict, or the outputs of the batches cannot be
                put together.
        """
        datasets = self.eval_dataset if eval_dataset is None else eval_dataset
        with self._session("evaluate") as run:
            if isinstance(datasets, dict):
                merged: dict[str, Any] = {}
                for name, dataset in datasets.items():
                    # The Trainer's own are asked for by name, so that it can keep their loaders.
                    chosen = name if eval_dataset is None else dataset
                    metrics = self.evaluate(
                        eval_dataset=chosen,
                        ignore_keys=ignore_keys,
                        metric_key_prefix=f"{metric_key_prefix}_{name}",
                    )
                    merged.update(metrics)
                return merged
            output = self._timed_loop(
                self.get_eval_dataloader(datasets),
                description="Evaluation",
                # Without compute_metrics nobody will look at the predictions.
                prediction_loss_only=True if self.compute_metrics is None else None,
                ignore_keys=ignore_keys,
                metric_key_prefix=metric_key_prefix,
            )
            metrics = output.metrics or {}
            self.log(metrics)
            run.announce("evaluate", {"metrics": metrics})
        return metrics

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
    ) -> PredictionOutput:
        """Predicts, and gives metrics where the data has labels; logs nothing.

        Args:
            test_dataset: what to predict.
            ignore_keys: outputs of the model that are not gathered.
            metric_key_prefix: what the names of all metrics begin with.

        Returns:
            Predictions and labels, samples first, batches of other lengths padded on the right
            with -100; metrics by name.

        Raises:
            ArgumentError: `compute_metrics` gave no dict, or the outputs of the batches cannot be
                put together.
        """
        with self._session("predict") as run:
            output = self._timed_loop(
                self.get_test_dataloader(test_dataset),
                description="Prediction",
                ignore_keys=ignore_keys,
                metric_key_prefix=metric_key_prefix,
            )
            run.announce("predict", {"metrics": output.metrics})
        return PredictionOutput(output.predictions, output.label_ids, output.metrics)

    def _timed_loop(self, loader: Iterable[Any], **options: Any) -> EvalLoopOutput:
        started = time.perf_counter()
        output = self.evaluation_loop(loader, **options)
        seconds = time.perf_counter() - started
        samples = output.num_samples
        steps = None if samples is None else math.ceil(samples / self.args.eval_batch_size)
        metrics = {} if output.metrics is None else output.metrics
        metrics.update(speed_metrics(options["metric_key_prefix"], seconds, samples, steps))
        return output._replace(metrics=metrics)

    def evaluation_loop(
        self,
        dataloader: Iterable[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Goes through a loader once, with the model in evaluation mode.

        Nothing is read from the device before the end, but for every `eval_accumulation_steps`.

        Args:
            dataloader: the batches, as dicts of the model's arguments.
            description: Evaluation or Prediction; the latter keeps what the batches gave also
                under `batch_eval_metrics`.
            prediction_loss_only: gather nothing but the loss; as in the arguments by default.
            ignore_keys: outputs of the model that are not gathered.
            metric_key_prefix: what the names of all metrics begin with.

        Raises:
            ArgumentError: as for `evaluate`.
        """
        args = self.args
        loss_only = (
            args.prediction_loss_only if prediction_loss_only is None else prediction_loss_only
        )
        by_batch, every = args.batch_eval_metrics, args.eval_accumulation_steps
        keep_all = not by_batch or description == "Prediction"
        collected = Collected(concat=args.eval_do_concat_batches, losses_only=not keep_all)
        metrics: dict[str, Any] | None = None
        with contextlib.ExitStack() as stack:
            run = stack.enter_context(self._session("evaluate"))
            model = stack.enter_context(self._evaluation_model())
            _evaluation_mode(model, self.optimizer)
            steps = iter(run.evaluation_steps(dataloader))
            # An error keeps this frame alive; the workers of the loader are to end all the same.
            stack.callback(getattr(steps, "close", _nothing))
            inputs = next(steps, _NO_MORE)
            while inputs is not _NO_MORE:
                batch = self._predict_batch(model, inputs, loss_only, ignore_keys)
                collected.add(batch)
                if every is not None and collected.num_batches % every == 0:
                    collected.to_host()
                # The next batch is loaded here, and this one announced, so that the metrics of
                # the last batch know that it is.
                inputs = next(steps, _NO_MORE)
                if by_batch:
                    metrics = self._metrics_of_batch(batch, last=inputs is _NO_MORE)
                del batch  # its memory is free for the next
            with run.metrics.waits.counted(collected.num_on_device, "an evaluation"):
                collected.to_host()
        return self._output(dataloader, collected, metrics, metric_key_prefix)

    def _predict_batch(
        self, model: nn.Module, inputs: Any, loss_only: bool, ignore_keys: list[str] | None
    ) -> Batch:
        size = find_batch_size(inputs)
        batch = Batch(inputs, self.args.eval_batch_size if size is None else size)
        if "inputs" in self.args.include_for_metrics:
            batch.main_input = main_input_of(self.model, inputs)
        loss, logits, labels = self.prediction_step(
            model, inputs, loss_only, ignore_keys=ignore_keys
        )
        if loss is not None:
            # One loss per sample, so that the mean over all is one over samples.
            batch.losses = loss.repeat(batch.num_samples)
        if logits is not None and self.preprocess_logits_for_metrics is not None:
            logits = self.preprocess_logits_for_metrics(logits, labels)
        batch.logits, batch.labels = logits, labels
        return batch

    def _metrics_of_batch(self, batch: Batch, *, last: bool) -> dict[str, Any] | None:
        if self.compute_metrics is None or batch.logits is None or batch.labels is None:
            return None
        given = self._eval_prediction(batch.logits, batch.labels, batch.inputs, batch.losses)
        metrics = self.compute_metrics(given, compute_result=last)
        return checked(metrics) if last else None

    def _eval_prediction(
        self, predictions: Any, labels: Any, inputs: Any, losses: Any
    ) -> EvalPrediction:
        wanted = self.args.include_for_metrics
        return EvalPrediction(
            predictions,
            labels,
            inputs=inputs if "inputs" in wanted else None,
            losses=losses if "loss" in wanted else None,
        )

    def _output(
        self,
        loader: Iterable[Any],
        collected: Collected,
        metrics: dict[str, Any] | None,
        prefix: str,
    ) -> EvalLoopOutput:
        losses, predictions = collected.arrays("losses"), collected.arrays("logits")
        labels, inputs = collected.arrays("labels"), collected.arrays("main_input")
        measurable = predictions is not None and labels is not None
        if self.compute_metrics is not None and measurable and not self.args.batch_eval_metrics:
            given = self._eval_prediction(predictions, labels, inputs, losses)
            metrics = checked(self.compute_metrics(given))
        num_samples = length_of(getattr(loader, "dataset", None)) or collected.num_samples
        metrics = closing_metrics(metrics or {}, losses, prefix)
        return EvalLoopOutput(predictions, labels, metrics, num_samples)


def _nothing() -> None: ...


def _evaluation_mode(*parts: Any) -> None:
    # Schedule-free optimizers have two modes as well.
    for part in parts:
        switch = getattr(part, "eval", None)
        if callable(switch):
            switch()
