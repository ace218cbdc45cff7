"""`auto_find_batch_size`: what running out of memory looks like, and what to try next."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from ...schemas import TrainerState
from ...schemas.errors import ArgumentError
from ..checkpoint import get_last_checkpoint
from ..saving import STATE

_SIGNS = (
    "out of memory",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)
SHRINK = 0.9
"""What a batch size is multiplied by when it was too large, as in the reference."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def saved_batch_size(resume_from: str | bool, output_dir: str) -> int | None:
    """The batch size that a checkpoint's run had found; None where it does not say."""
    folder = get_last_checkpoint(output_dir) if resume_from is True else resume_from
    path = Path(str(folder)) / STATE
    return TrainerState.load_from_json(path).train_batch_size if path.is_file() else None


def smaller_batch(size: int, error: BaseException) -> int:
    """The next batch size to try; frees what the failed one held.

    Raises:
        ArgumentError: there is no smaller one.
    """
    smaller = int(size * SHRINK)
    if smaller < 1:
        raise ArgumentError(
            f"auto_find_batch_size: not even a batch of {size} fits into memory ({error}). Take a "
            "smaller model, shorter samples, or activation_checkpointing."
        ) from error
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return smaller
