"""Subclasses of a Trainer that override loaders, optimizers, evaluations and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from tests.differential.data import rows


def own_loaders(base: Any) -> Any:
    """Makes its own loaders."""

    class Trainer(base):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            generator = torch.Generator().manual_seed(4)
            return DataLoader(self.train_dataset, batch_size=5, shuffle=True, generator=generator)

        def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
            return DataLoader(rows(8, 9), batch_size=4)  # type: ignore[arg-type]

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
            super()._save(output_dir, state_dict)
            (Path(output_dir or self.args.output_dir) / "note.txt").write_text("mine")

    return Trainer
