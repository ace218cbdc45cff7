"""What the machine and its environment allow."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import nn

from ..schemas.errors import ArgumentError


def refuse_several_ranks(environ: Mapping[str, str] = os.environ) -> None:
    """One process is supported so far; several are refused before anything is written.

    Raises:
        ArgumentError: WORLD_SIZE is above 1, or no number.
    """
    text = environ.get("WORLD_SIZE", "1")
    try:
        world_size = int(text)
    except ValueError:
        raise ArgumentError(f"WORLD_SIZE is {text!r}: it must be a whole number.") from None
    if world_size > 1:
        raise ArgumentError(
            f"WORLD_SIZE is {world_size}, and stepbus does not train on several ranks yet: start "
            "one process (python train.py instead of torchrun), or unset WORLD_SIZE."
        )


def default_device(use_cpu: bool = False) -> torch.device:
    """Where a model goes unless told otherwise: CUDA, MPS, or the CPU."""
    if use_cpu:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", 0)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter is; the CPU for a model without any."""
    parameter = next(model.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")


def num_parameters(model: nn.Module) -> int:
    """The parameters of a model, each counted once."""
    return sum(parameter.numel() for parameter in model.parameters())
