"""What a Lightning trainer is and has, in stepbus's words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...schemas.argument_writing import frozen_arguments
from ..environment import num_parameters
from .lightning_logger import FOLDER, BusLogger


def beginning(trainer: Any, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `train_begin`."""
    module = trainer.lightning_module
    batches = finite(trainer.num_training_batches)
    return {
        "arguments": frozen_arguments(hyperparameters or hyperparameters_of(trainer)),
        "model": type(module).__name__,
        "num_parameters": num_parameters(module),
        "max_steps": steps_of(trainer),
        "num_train_epochs": float(max(trainer.max_epochs or 0, 0)),
        "steps_per_epoch": math.ceil(batches / trainer.accumulate_grad_batches) if batches else 0,
        "resumed_from": str(trainer.ckpt_path) if trainer.ckpt_path else None,
    }


def hyperparameters_of(trainer: Any) -> dict[str, Any]:
    """Those that the data module and the module have saved; the latter's win."""
    found: dict[str, Any] = {}
    for owner in (trainer.datamodule, trainer.lightning_module):
        found.update(getattr(owner, "hparams_initial", None) or {})
    return found


def steps_of(trainer: Any) -> int:
    """Optimizer steps of a training; 0 where they are not known, as where the module steps."""
    if not trainer.lightning_module.automatic_optimization:
        return max(int(trainer.max_steps), 0)
    return max(finite(trainer.estimated_stepping_batches) or 0, 0)


def finite(number: float) -> int | None:
    """A number of batches; None for infinitely many."""
    return int(number) if math.isfinite(number) else None


def batches_of(trainer: Any) -> int | None:
    """Batches of the evaluation or prediction that is going on; None where not known."""
    if trainer.predicting:
        batches = trainer.num_predict_batches
    else:
        batches = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
    return finite(sum(batches))


def folder_of(trainer: Any, logger: BusLogger) -> Path | None:
    """Where the run is kept: where its first logger keeps it; None for a remote place."""
    first = trainer.loggers[0] if trainer.loggers else logger
    chosen = getattr(first, "log_dir", None) or logger.log_dir
    chosen = chosen or str(Path(trainer.default_root_dir) / FOLDER)
    return None if "://" in chosen else Path(chosen)


def saved(trainer: Any, filepath: Any, save_s: float) -> dict[str, Any]:
    """The fields of `save`."""
    path = Path(filepath)
    files = [path] if path.is_file() else path.rglob("*")
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    return {
        "path": str(filepath),
        "num_bytes": sum(file.stat().st_size for file in files if file.is_file()),
        "save_s": save_s,
        "best": bool(best) and str(filepath) == best,
    }


def figures_of(trainer: Any) -> dict[str, float]:
    """The last of each metric, as numbers; read where Lightning has read them."""
    return {
        name: float(value)
        for name, value in trainer.callback_metrics.items()
        if isinstance(value, Tensor) and value.numel() == 1 and value.is_cpu
    }


def told(step: int, metrics: Mapping[str, Any]) -> str:
    """What a validation came to, for its verdict; values on a device are not waited for."""
    shown = [
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {float(value):.4g}"
        for name, value in metrics.items()
        if isinstance(value, int | float) or (isinstance(value, Tensor) and value.is_cpu)
    ]
    return f"evaluated at step {step}: {', '.join(shown)}"
