"""Ignite's loggers on an engine: the scalars that transformers' Trainer logs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import MLflowLogger, TensorboardLogger, WandBLogger
from torch import optim


def attach(
    engine: Engine,
    optimizer: optim.Optimizer,
    trackers: Sequence[str],
    folder: Path,
    logging_steps: int,
) -> None:
    """Logs loss, norm, rate and epoch every few steps."""

    def values(output: Any) -> dict[str, float]:
        loss, norm = output
        return {
            "loss": loss.item(),
            "grad_norm": norm.item(),
            "learning_rate": optimizer.param_groups[0]["lr"],
            "epoch": engine.state.epoch,
        }

    for name in trackers:
        logger = _logger(name, folder)
        logger.attach_output_handler(
            engine,
            event_name=Events.ITERATION_COMPLETED(every=logging_steps),
            tag="train",
            output_transform=values,
        )
        engine.add_event_handler(Events.COMPLETED, lambda _, each=logger: each.close())


def _logger(name: str, folder: Path) -> Any:
    if name == "tensorboard":
        return TensorboardLogger(log_dir=str(folder))
    if name == "wandb":
        return WandBLogger(project="benchmark", dir=str(folder), mode="offline")
    return MLflowLogger(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
