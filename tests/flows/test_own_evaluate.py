"""A Trainer with an `evaluate` and a `predict` of its own, as for question answering."""

from __future__ import annotations

import math
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.differential.libraries import REFERENCE, STEPBUS, Library
from tests.flows import small_runs
from tests.flows.small_runs import NUM_SPECIAL, NUM_TOKENS, history, weights

transformers: Any = import_module("transformers")
datasets: Any = import_module("datasets")
trainer_utils: Any = import_module("transformers.trainer_utils")

pytestmark = pytest.mark.slow


def make_model() -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=NUM_TOKENS + NUM_SPECIAL,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    return transformers.BertForQuestionAnswering(config)


def data(count: int, seed: int) -> Any:
    """The answer stands where the largest token is."""
    rows = small_runs.sentences(count, seed)
    starts = [row.index(max(row)) for row in rows]
    ends = [min(start + 1, len(row) - 1) for start, row in zip(starts, rows, strict=True)]
    return datasets.Dataset.from_dict(
        {"input_ids": rows, "start_positions": starts, "end_positions": ends}
    )


def answers(library: Library, examples: Any, predictions: Any) -> Any:
    """Where each answer is predicted to begin, and where it does."""
    return library.EvalPrediction(
        predictions=predictions[0].argmax(1), label_ids=examples["start_positions"]
    )


def exact(predicted: Any) -> dict[str, float]:
    hits = [int(a) == b for a, b in zip(*predicted, strict=True)]
    return {"exact": sum(hits) / len(hits)}


def trainer_class(library: Library) -> Any:
    """Its metrics come of answers that are made of the logits and the examples."""

    class AnswersTrainer(library.Trainer):  # type: ignore[misc, name-defined]
        compute_metrics: Any
        control: Any

        def __init__(self, *given: Any, eval_examples: Any = None, **keywords: Any) -> None:
            super().__init__(*given, **keywords)
            self.eval_examples = eval_examples
            self.metrics_of: Any = keywords["compute_metrics"]

        def _answers_of(
            self, dataloader: Any, description: str, prefix: str, ignore_keys: Any
        ) -> Any:
            compute_metrics, self.compute_metrics = self.compute_metrics, None
            start_time = time.time()
            try:
                output = self.evaluation_loop(
                    dataloader,
                    description=description,
                    prediction_loss_only=True if compute_metrics is None else None,
                    ignore_keys=ignore_keys,
                    metric_key_prefix=prefix,
                )
            finally:
                self.compute_metrics = compute_metrics
            total_batch_size = self.args.eval_batch_size * self.args.world_size
            output.metrics.update(
                trainer_utils.speed_metrics(
                    prefix,
                    start_time,
                    num_samples=output.num_samples,
                    num_steps=math.ceil(output.num_samples / total_batch_size),
                )
            )
            return output

        def evaluate(
            self,
            eval_dataset: Any = None,
            eval_examples: Any = None,
            ignore_keys: Any = None,
            metric_key_prefix: str = "eval",
        ) -> dict[str, float]:
            dataset = self.eval_dataset if eval_dataset is None else eval_dataset
            examples = self.eval_examples if eval_examples is None else eval_examples
            loader = self.get_eval_dataloader(dataset)
            output = self._answers_of(loader, "Evaluation", metric_key_prefix, ignore_keys)
            metrics = self.metrics_of(answers(library, examples, output.predictions))
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
            metrics.update(output.metrics)
            if self.args.should_log:
                self.log(metrics)
            self.control = self.callback_handler.on_evaluate(
                self.args, self.state, self.control, metrics
            )
            return metrics

        def predict(
            self,
            predict_dataset: Any,
            predict_examples: Any,
            ignore_keys: Any = None,
            metric_key_prefix: str = "test",
        ) -> Any:
            loader = self.get_test_dataloader(predict_dataset)
            output = self._answers_of(loader, "Prediction", metric_key_prefix, ignore_keys)
            found = answers(library, predict_examples, output.predictions)
            return trainer_utils.PredictionOutput(
                predictions=found.predictions,
                label_ids=found.label_ids,
                metrics=self.metrics_of(found),
            )

    return AnswersTrainer


def flow(library: Library, folder: Path) -> dict[str, Any]:
    seen: list[dict[str, float]] = []

    class Watches(library.TrainerCallback):  # type: ignore[misc, name-defined]
        def on_evaluate(
            self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any
        ) -> None:
            seen.append({k: v for k, v in metrics.items() if k in ("eval_exact", "eval_loss")})

    library.set_seed(4)
    evaluated, predicted = data(12, seed=2), data(9, seed=3)
    trainer = trainer_class(library)(
        model=make_model(),
        args=library.TrainingArguments(
            str(folder),
            num_train_epochs=8,
            per_device_train_batch_size=4,
            learning_rate=0.02,
            logging_steps=3,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="exact",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=data(30, seed=1),
        eval_dataset=evaluated,
        eval_examples=evaluated,
        compute_metrics=exact,
        callbacks=[library.EarlyStoppingCallback(early_stopping_patience=2), Watches()],
    )
    trainer.train()
    last = trainer.evaluate()
    output = trainer.predict(predicted, predicted)
    return {
        "history": history(trainer),
        "weights": weights(trainer),
        "seen": seen,
        "last": (last["eval_exact"], last["eval_loss"]),
        "predictions": output.predictions.tolist(),
        "metrics": output.metrics,
        "steps": (trainer.state.global_step, trainer.state.best_global_step),
    }


def test_an_evaluate_of_ones_own_that_calls_the_callbacks_is_the_same(tmp_path: Path) -> None:
    reference = flow(REFERENCE, tmp_path / "reference")
    stepbus = flow(STEPBUS, tmp_path / "stepbus")
    assert stepbus == reference
    assert stepbus["steps"][0] < 8 * 8, "early stopping was to end it"
    assert len(stepbus["seen"]) == stepbus["steps"][0] // 8 + 1
