"""When a run logs, evaluates and saves, what optimizes it and how its learning rate moves."""

from __future__ import annotations

import math
from enum import StrEnum


class IntervalStrategy(StrEnum):
    """When to log or to evaluate; equal to the plain strings."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"


class SaveStrategy(StrEnum):
    """When to save: `best` means right after an evaluation that was the best so far."""

    NO = "no"
    STEPS = "steps"
    EPOCH = "epoch"
    BEST = "best"


class HubStrategy(StrEnum):
    """What of a run is pushed to the Hub, and when."""

    END = "end"
    EVERY_SAVE = "every_save"
    CHECKPOINT = "checkpoint"
    ALL_CHECKPOINTS = "all_checkpoints"


class SchedulerType(StrEnum):
    """The schedules of the learning rate, by the reference's names."""

    LINEAR = "linear"
    COSINE = "cosine"
    COSINE_WITH_RESTARTS = "cosine_with_restarts"
    POLYNOMIAL = "polynomial"
    CONSTANT = "constant"
    CONSTANT_WITH_WARMUP = "constant_with_warmup"
    INVERSE_SQRT = "inverse_sqrt"
    REDUCE_ON_PLATEAU = "reduce_lr_on_plateau"
    COSINE_WITH_MIN_LR = "cosine_with_min_lr"
    COSINE_WARMUP_WITH_MIN_LR = "cosine_warmup_with_min_lr"
    WARMUP_STABLE_DECAY = "warmup_stable_decay"


SCHEDULES = frozenset(SchedulerType)
"""Those that are run: all of them."""


class OptimizerNames(StrEnum):
    """The optimizers that are made by name; any other one is passed as an object."""

    ADAMW_TORCH = "adamw_torch"
    ADAMW_TORCH_FUSED = "adamw_torch_fused"
    SGD = "sgd"
    ADAGRAD = "adagrad"
    RMSPROP = "rmsprop"


def steps_of(ratio_or_count: float, max_steps: int) -> int:
    """Steps that an argument such as `logging_steps` stands for.

    Below 1 it is a part of the run's `max_steps`, rounded up; from 1 on it is a count.
    """
    if ratio_or_count < 1:
        return math.ceil(ratio_or_count * max_steps)
    return int(ratio_or_count)
