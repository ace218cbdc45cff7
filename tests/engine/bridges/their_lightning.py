"""Lightning's own Trainer on a tiny regression, with a callback of theirs that records."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


def loader(count: int, seed: int, *, shuffle: bool = False) -> Any:
    """Batches of four samples, the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 3, generator=generator)
    return DataLoader(TensorDataset(features, features.sum(1, keepdim=True)), 4, shuffle=shuffle)


class Regression(pl.LightningModule):
    """Two layers with dropout; logs at steps and at epochs, as people do."""

    def __init__(self, learning_rate: float = 0.05, hub_token: str | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.2), nn.ReLU(), nn.Linear(8, 1))

    def _loss(self, batch: Any) -> Any:
        features, target = batch
        return nn.functional.mse_loss(self.layers(features), target)

    def training_step(self, batch: Any, index: int) -> Any:
        loss = self._loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", self._loss(batch))

    def test_step(self, batch: Any, index: int) -> None:
        self.log("test_loss", self._loss(batch))

    def predict_step(self, batch: Any, index: int) -> Any:
        return self.layers(batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), self.hparams["learning_rate"])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def module() -> Regression:
    """The same at each call."""
    torch.manual_seed(0)
    return Regression()


def make_trainer(folder: Path, *callbacks: Any, **changes: Any) -> pl.Trainer:
    """Two epochs of three steps, on the CPU, with a log a step."""
    given: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "default_root_dir": folder,
        "logger": False,
        "log_every_n_steps": 1,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 1,
    }
    if any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
        given["enable_checkpointing"] = True
    return pl.Trainer(callbacks=list(callbacks), **(given | changes))


def fit(trainer: pl.Trainer, *, validates: bool = True, **changes: Any) -> Regression:
    """Trains a module on 12 samples, in a shuffled order, and validates it on 8."""
    model = module()
    validation = loader(8, seed=1) if validates else None
    trainer.fit(model, loader(12, seed=0, shuffle=True), validation, **changes)
    return model


class Recording(pl.Callback):
    """Sees every hook, as their callbacks do."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda *args, **kwargs: self.seen.append(name)
