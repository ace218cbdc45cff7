"""What an evaluation promises beside its figures: order, no waiting, NaN, errors that help."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stepbus import ArgumentError
from stepbus.engine.metric_buffer import MetricBuffer
from stepbus.engine.trainer.evaluation import TrainerEvaluation
from stepbus.engine.trainer.predictions import EvalPrediction


class Abandoned(BaseException):
    """A stop was voted for."""


class Double(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen_training: list[bool] = []

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Any]:
        self.seen_training.append(self.training)
        outputs = {"logits": x * 2, "past_key_values": x}
        if labels is None:
            return outputs
        return {"loss": ((x * 2 - labels) ** 2).mean(), **outputs}


class Host(TrainerEvaluation):
    """The least that an evaluation stands on, over a list of batches."""

    metrics = MetricBuffer()

    def __init__(self, batches: Iterable[Any], model: nn.Module | None = None, **args: Any) -> None:
        self.args = SimpleNamespace(
            eval_batch_size=4, eval_do_concat_batches=True, eval_accumulation_steps=None,
            batch_eval_metrics=False, include_for_metrics=[], prediction_loss_only=False,
        )  # fmt: skip
        vars(self.args).update(args)
        self.model = Double() if model is None else model
        self.optimizer = self.eval_dataset = None
        self.label_names, self.can_return_loss = ["labels"], False
        self.compute_metrics = self.preprocess_logits_for_metrics = None
        self.batches = batches
        self.order: list[str] = []
        self.open_sessions = 0
        self.stop_after: int | None = None

    def get_eval_dataloader(self, dataset: Any = None) -> Iterable[Any]:
        return self.batches

    get_test_dataloader = get_eval_dataloader

    def compute_loss(
        self, model: nn.Module, inputs: Any, return_outputs: bool, num_items_in_batch: Any
    ) -> Any:
        outputs = model(**inputs)
        return outputs["loss"], outputs

    def compute_loss_context_manager(self) -> Any:
        return contextlib.nullcontext()

    def _num_items_in_batch(self, batches: list[Any]) -> int:
        return len(batches)

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs

    def log(self, metrics: dict[str, Any]) -> None:
        assert self.open_sessions
        self.order.append("log")

    @contextlib.contextmanager
    def _evaluation_model(self) -> Iterator[nn.Module]:
        yield self.model

    @contextlib.contextmanager
    def _session(self, name: str) -> Iterator[Host]:
        self.open_sessions += 1
        try:
            yield self
        finally:
            self.open_sessions -= 1

    def evaluation_steps(self, loader: Iterable[Any]) -> Iterator[Any]:
        for done, batch in enumerate(loader, start=1):
            self.order.append(f"batch {done}")
            yield batch
            self.order.append(f"prediction_step {done}")
            if done == self.stop_after:
                raise Abandoned

    def announce(self, name: str, fields: dict[str, Any]) -> None:
        assert self.open_sessions
        self.order.append(name)


def batches(*sizes: int) -> list[dict[str, Tensor]]:
    return [{"x": torch.arange(float(n)), "labels": torch.ones(n)} for n in sizes]


def test_each_batch_is_announced_before_the_next_is_loaded_then_logged_then_announced() -> None:
    host = Host(batches(2, 1))
    host.evaluate()
    each = ["batch 1", "prediction_step 1", "batch 2", "prediction_step 2"]
    assert host.order == [*each, "log", "evaluate"]
    host.order.clear()
    host.predict(None)
    assert host.order == [*each, "predict"]


def test_metrics_by_batch_change_nothing_of_the_order() -> None:
    host = Host(iter(batches(2, 2, 1)), batch_eval_metrics=True)
    lasts: list[bool] = []

    def metric(given: EvalPrediction, compute_result: bool) -> dict[str, Any]:
        lasts.append(compute_result)
        return {"count": len(lasts)}

    host.compute_metrics = metric
    metrics = host.evaluate()

    plain = Host(batches(2, 2, 1))
    plain.evaluate()
    assert host.order == plain.order
    assert lasts == [False, False, True]
    assert metrics["eval_count"] == 3


def test_the_model_and_a_schedule_free_optimizer_are_in_evaluation_mode() -> None:
    host, modes = Host(batches(2, 2)), []
    host.optimizer = SimpleNamespace(eval=lambda: modes.append("eval"))
    host.model.train()
    host.evaluate()
    assert isinstance(host.model, Double)
    assert host.model.seen_training == [False, False]
    assert modes == ["eval"]


def test_losses_count_by_sample_whatever_the_batch_sizes() -> None:
    rows = torch.cat([batch["x"] for batch in batches(1, 3, 2)])
    metrics = Host(batches(1, 3, 2)).evaluate()
    assert metrics["eval_loss"] == pytest.approx(((rows * 2 - 1) ** 2).mean().item())


def test_samples_without_a_dataset_are_those_that_were_seen() -> None:
    host = Host(iter(batches(1, 3, 2)))
    assert host.evaluation_loop(host.batches, "Evaluation").num_samples == 6


@pytest.mark.parametrize(
    ("args", "last"),
    [
        ({}, "prediction_step 10"),
        ({"batch_eval_metrics": True}, "prediction_step 10"),
        ({"eval_accumulation_steps": 3}, "batch 3"),
    ],
)
def test_no_value_is_read_before_the_containers_are_emptied(args: Any, last: str) -> None:
    # A meta tensor has no value: whatever reads one fails.
    batch = {"x": torch.ones(2, device="meta"), "labels": torch.ones(2, device="meta")}
    host = Host([batch] * 10, **args)
    host.compute_metrics = lambda given, compute_result=True: {"n": len(given.predictions)}
    with pytest.raises(NotImplementedError, match="meta"):
        host.evaluate()
    assert host.order[-1] == last


def test_a_loss_that_is_nan_is_reported() -> None:
    given = batches(2, 2)
    given[1]["labels"][0] = math.nan
    metrics = Host(given, logging_nan_inf_filter=True).evaluate()
    assert math.isnan(metrics["eval_loss"])


def test_a_stop_leaves_the_evaluation_without_metrics() -> None:
    host = Host(batches(2, 2, 2))
    host.stop_after = 2
    with pytest.raises(Abandoned):
        host.evaluate()
    assert host.order[-1] == "prediction_step 2"
    assert host.open_sessions == 0


@pytest.mark.parametrize("by_batch", [False, True])
def test_compute_metrics_must_return_a_dict(by_batch: bool) -> None:
    host = Host(batches(2, 2), batch_eval_metrics=by_batch)
    host.compute_metrics = lambda given, compute_result=True: 0.5 if compute_result else None
    with pytest.raises(ArgumentError, match=r"compute_metrics returned 0\.5.*dict"):
        host.evaluate()


def test_metrics_are_plain_numbers_under_prefixed_names() -> None:
    host = Host(batches(2))
    host.compute_metrics = lambda given: {
        "acc": np.float32(0.5),
        "eval_f1": torch.tensor(1.0),
        "list": [np.int64(3)],
    }
    metrics = host.evaluate()
    assert list(metrics)[:4] == ["eval_f1", "eval_loss", "eval_acc", "eval_list"]
    assert [type(metrics[f"eval_{name}"]) for name in ("acc", "f1")] == [float, float]
    assert metrics["eval_list"] == [3]


def test_inputs_that_are_not_there_are_named() -> None:
    host = Host(batches(2), include_for_metrics=["inputs"])
    with pytest.raises(ArgumentError, match=r"x, labels has no 'input_ids'.*main_input_name"):
        host.evaluate()


def test_what_the_configuration_names_is_left_out_unless_asked_for() -> None:
    host = Host(batches(2, 1))
    assert isinstance(host.predict(None).predictions, tuple)  # no configuration, nothing ignored
    host.model.config = SimpleNamespace()  # type: ignore[assignment]
    assert host.predict(None).predictions.tolist() == [0, 2, 0]
    host.model.config = SimpleNamespace(keys_to_ignore_at_inference=("logits",))  # type: ignore[assignment]
    assert host.predict(None).predictions.tolist() == [0, 1, 0]
    assert isinstance(host.predict(None, ignore_keys=[]).predictions, tuple)


def test_a_model_that_gives_a_bare_tensor_keeps_all_of_its_rows() -> None:
    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, None] * 3

    host = Host([{"x": torch.ones(2)}, {"x": torch.ones(1)}], Bare())
    assert host.predict(None).predictions.tolist() == [[3], [3], [3]]


def test_an_empty_loader_gives_no_loss() -> None:
    host = Host([])
    metrics = host.evaluate()
    assert metrics.pop("eval_runtime") >= 0
    assert metrics == {"eval_samples_per_second": 0.0, "eval_steps_per_second": 0.0}


def test_an_overridden_step_and_loop_are_used() -> None:
    class Own(Host):
        def prediction_step(
            self, model: nn.Module, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
        ) -> Any:
            return torch.tensor(2.0), inputs["x"], None

        def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
            self.order.append("loop")
            return super().evaluation_loop(*args, **kwargs)

    host = Own(batches(2, 2))
    host.compute_metrics = lambda given: {"never": 1}
    assert host.evaluate()["eval_loss"] == 2.0
    assert host.order[0] == "loop"
    assert host.predict(None).label_ids is None
