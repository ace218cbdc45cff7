"""Subclasses of the Trainer that override what people override."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.differential.case import Case, Outcome
from tests.differential.data import rows
from tests.differential.grouping import each
from tests.differential.models import LossKeywords, Regression

EVALUATED: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2}
GROUPS: dict[str, Any] = {"gradient_accumulation_steps": 4}


def own_loss(base: Any) -> Any:
    """The usual override: no word of `num_items_in_batch`."""

    class Trainer(base):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            labels = inputs.pop("labels")
            outputs = model(**inputs)
            loss = F.l1_loss(outputs[0], labels)
            return (loss, (loss, *outputs)) if return_outputs else loss

    return Trainer


def own_loss_of_items(base: Any) -> Any:
    """Takes the number of items of the whole step."""

    class Trainer(base):  # type: ignore[misc]
        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            found = model(inputs["x"])[0]
            total = F.mse_loss(found, inputs["labels"], reduction="sum")
            count = inputs["labels"].numel() if num_items_in_batch is None else num_items_in_batch
            return (total / count, (total, found)) if return_outputs else total / count

    return Trainer


def scaled(value: bool | None, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Says whether its loss is scaled for accumulation."""
    return lambda base: type("Trainer", (make(base),), {"loss_is_scaled_for_ga": value})


def logging_own(base: Any) -> Any:
    """Logs values of its own from the loss, and adds to every log."""

    class Trainer(base):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any
        ) -> Any:
            result = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            self.last = float(result[0].detach())
            return result if return_outputs else result[0]

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            logs["last"] = self.last
            super().log(logs, start_time)

    return Trainer


def logging_less(base: Any) -> Any:
    """Older signature; leaves something out."""

    class Trainer(base):  # type: ignore[misc]
        def log(self, logs: dict[str, float], *args: Any) -> None:
            logs.pop("grad_norm", None)
            super().log({f"own/{name}": value for name, value in logs.items()}, *args)

    return Trainer


def own_step(base: Any) -> Any:
    """Calls the step of its base and does more."""

    class Trainer(base):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            loss = super().training_step(model, inputs, num_items_in_batch)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.grad.mul_(0.5)
            return loss * 2

    return Trainer


def whole_step(base: Any) -> Any:
    """Does the step by itself."""

    class Trainer(base):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            model.train()
            inputs = self._prepare_inputs(inputs)
            loss = model(**inputs)[0] / self.args.gradient_accumulation_steps
            loss.backward()
            return loss.detach()

    return Trainer


def own_loaders(base: Any) -> Any:
    """Makes its own loaders."""

    class Trainer(base):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            generator = torch.Generator().manual_seed(4)
            return DataLoader(self.train_dataset, batch_size=5, shuffle=True, generator=generator)

        def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
            return DataLoader(rows(6, 9), batch_size=3)  # type: ignore[arg-type]

    return Trainer


def shuffled_loader(base: Any) -> Any:
    """A loader without a generator of its own: the order comes from the global one."""

    class Trainer(base):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return DataLoader(self.train_dataset, batch_size=4, shuffle=True)

    return Trainer


def own_sampler(base: Any) -> Any:
    """Its own order."""

    class Trainer(base):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            weights = [1.0 + index for index in range(len(self.train_dataset))]
            return torch.utils.data.WeightedRandomSampler(weights, len(weights))

        def _get_eval_sampler(self, eval_dataset: Any) -> Any:
            return torch.utils.data.SubsetRandomSampler([3, 1, 4], torch.Generator().manual_seed(1))

    return Trainer


def own_optimizer(base: Any) -> Any:
    """Makes the optimizer."""

    class Trainer(base):  # type: ignore[misc]
        optimizer: Any

        def create_optimizer(self, *args: Any) -> Any:
            if self.optimizer is None:
                self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
            return self.optimizer

    return Trainer


def own_schedule(base: Any) -> Any:
    """Makes the schedule."""

    class Trainer(base):  # type: ignore[misc]
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            optimizer = optimizer or self.optimizer
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: 1.0 - step / (2 * num_training_steps)
            )
            return self.lr_scheduler

    return Trainer


def own_both(base: Any) -> Any:
    """Makes both, as older scripts do it."""

    class Trainer(base):  # type: ignore[misc]
        def create_optimizer(self, *args: Any) -> Any:
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.03)
            return self.optimizer

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.9)
            return self.lr_scheduler

    return Trainer


def no_decay(base: Any) -> Any:
    """Chooses what decays."""

    class Trainer(base):  # type: ignore[misc]
        def get_decay_parameter_names(self, model: Any) -> list[str]:
            return ["out.weight"]

    return Trainer


def own_evaluation(base: Any) -> Any:
    """Adds a figure to each evaluation."""

    class Trainer(base):  # type: ignore[misc]
        def evaluate(
            self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
        ) -> Any:
            metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
            metrics[f"{metric_key_prefix}_double"] = 2 * metrics[f"{metric_key_prefix}_loss"]
            self.log({"double": metrics[f"{metric_key_prefix}_double"]})
            return metrics

    return Trainer


def whole_evaluation(base: Any) -> Any:
    """Evaluates by itself."""

    class Trainer(base):  # type: ignore[misc]
        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            weight = next(self.model.parameters()).detach().sum()
            return {"eval_loss": float(weight)}

    return Trainer


def own_prediction(base: Any) -> Any:
    """Predicts by itself."""

    class Trainer(base):  # type: ignore[misc]
        def prediction_step(
            self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
        ) -> Any:
            inputs = self._prepare_inputs(inputs)
            with torch.no_grad():
                loss, found = model(**inputs)
            return (loss + 1, found + 1, inputs["labels"])

    return Trainer


def own_loop(base: Any) -> Any:
    """Changes what the loop of evaluations gave."""

    class Trainer(base):  # type: ignore[misc]
        def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
            output = super().evaluation_loop(*args, **kwargs)
            output.metrics["eval_extra"] = len(output.metrics)
            return output

    return Trainer


def own_save(base: Any) -> Any:
    """Saves a file beside the model."""

    class Trainer(base):  # type: ignore[misc]
        def _save(self, output_dir: Any = None, state_dict: Any = None) -> None:
            from pathlib import Path

            super()._save(output_dir, state_dict)
            (Path(output_dir or self.args.output_dir) / "note.txt").write_text("mine")

    return Trainer


def absolute(prediction: Any) -> dict[str, Any]:
    return {"absolute": float(abs(prediction.predictions).sum())}


CASES = [
    Case("compute_loss", EVALUATED, subclass=own_loss),
    Case("compute_loss, accumulation 4", EVALUATED | GROUPS, subclass=own_loss, quick=True),
    Case("compute_loss, keywords", EVALUATED | GROUPS, LossKeywords, subclass=own_loss),
    *(
        Case(
            f"compute_loss, {kind.__name__}, scaled: {value}",
            EVALUATED | GROUPS,
            kind,
            subclass=scaled(value, own_loss),
        )
        for value in (True, False)
        for kind in (Regression, LossKeywords)
    ),
    Case("compute_loss of items", EVALUATED | GROUPS, subclass=own_loss_of_items),
    Case(
        "compute_loss of items, keywords",
        EVALUATED | GROUPS,
        LossKeywords,
        subclass=own_loss_of_items,
        quick=True,
    ),
    *(
        Case(
            f"compute_loss of items, scaled: {value}",
            GROUPS,
            LossKeywords,
            subclass=scaled(value, own_loss_of_items),
        )
        for value in (True, False)
    ),
    Case("log", EVALUATED | {"logging_steps": 3}, subclass=logging_own, quick=True),
    Case("log less", EVALUATED, subclass=logging_less),
    Case("training_step", EVALUATED | GROUPS, subclass=own_step),
    Case("training_step, whole", EVALUATED | GROUPS, subclass=whole_step),
    Case("loaders", EVALUATED, subclass=own_loaders),
    Case("loader without a generator", EVALUATED, subclass=shuffled_loader),
    Case("samplers", EVALUATED, subclass=own_sampler),
    Case("create_optimizer", EVALUATED, subclass=own_optimizer),
    Case("create_scheduler", EVALUATED, subclass=own_schedule),
    Case("both", EVALUATED, subclass=own_both),
    Case("get_decay_parameter_names", {"weight_decay": 0.5}, subclass=no_decay),
    Case("evaluate", EVALUATED, subclass=own_evaluation),
    Case(
        "evaluate, best by its figure",
        EVALUATED | {"metric_for_best_model": "double", "save_strategy": "best"},
        subclass=own_evaluation,
    ),
    Case("evaluate, whole", EVALUATED, subclass=whole_evaluation),
    Case(
        "prediction_step",
        EVALUATED,
        subclass=own_prediction,
        trainer=lambda library: {"compute_metrics": absolute},
    ),
    Case("evaluation_loop", EVALUATED, subclass=own_loop),
    Case("_save", {"save_strategy": "epoch"}, subclass=own_save),
]


@each(CASES)
def test_overrides(check: Callable[[Case], Outcome], case: Case) -> None:
    check(case)
