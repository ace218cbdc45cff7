"""The work as Lightning wants it: a module, a trainer, loggers."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.nn.utils import clip_grad_norm_

from stepbus.engine.bench.equal_work import Batch, Work, make_optimizer, make_schedule


class Wrapped(pl.LightningModule):
    """A model with its optimizer and schedule; logs what transformers' Trainer does."""

    def __init__(self, work: Work, model: nn.Module, *, logs: bool) -> None:
        super().__init__()
        self.work = work
        self.model = model
        self.logs = logs

    def training_step(self, batch: Batch, index: int) -> Any:
        """The loss of a micro-batch."""
        loss = self.model(**batch)["loss"]
        if self.logs:
            self.log("loss", loss)
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Clips as the loop by hand does, and keeps the norm."""
        norm = clip_grad_norm_(self.model.parameters(), self.work.max_grad_norm)
        if self.logs:
            self.log("grad_norm", norm)
            self.log("learning_rate", optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        """Fused AdamW with two groups, and a linear schedule that moves at each step."""
        optimizer = make_optimizer(self.work, self.model)
        schedule = make_schedule(self.work, optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def wrap(work: Work, model: nn.Module, *, logs: bool) -> Wrapped:
    """The module around a model."""
    return Wrapped(work, model, logs=logs)


def make_trainer(
    work: Work,
    folder: Path,
    trackers: Sequence[str],
    logging_steps: int,
    *,
    callbacks: Sequence[Any] = (),
    loggers: Sequence[Any] = (),
) -> pl.Trainer:
    """A trainer with nothing attached but the loggers of some trackers, and what is given."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        accumulate_grad_batches=work.accumulation,
        default_root_dir=folder,
        callbacks=list(callbacks),
        logger=[*loggers, *(_logger(name, folder) for name in trackers)] or False,
        log_every_n_steps=logging_steps or 50,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _logger(name: str, folder: Path) -> Any:
    from pytorch_lightning import loggers

    if name == "tensorboard":
        return loggers.TensorBoardLogger(folder)
    if name == "wandb":
        return loggers.WandbLogger(project="benchmark", save_dir=folder, offline=True)
    return loggers.MLFlowLogger("benchmark", tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
