"""What the arguments say of the machine: one process on one device."""

from __future__ import annotations

from enum import Enum
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any


class ParallelMode(Enum):
    """How a run is spread out; equal to the reference's member of the same value."""

    NOT_PARALLEL = "not_parallel"

    def __eq__(self, other: object) -> bool:
        return self.value == getattr(other, "value", other)

    def __hash__(self) -> int:
        return hash(self.value)


def default_device(use_cpu: bool) -> Any:
    """The `torch.device` on which a run trains.

    The one seam from the arguments to the engine. `args.device` belongs to the arguments'
    surface, but these must not load torch, which takes seconds; so the engine, which alone knows
    torch, is found by name at the first question and answers it.
    """
    return _environment().default_device(use_cpu)


@cache
def _environment() -> ModuleType:
    return import_module("..engine.environment", __package__)
