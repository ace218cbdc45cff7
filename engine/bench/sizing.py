"""Work whose step takes about so long on this machine."""

from __future__ import annotations

import itertools
import statistics
import time

import torch

from .equal_work import Work
from .loops import StepWatch, raw

WIDEST = 4096


class _Stamps(StepWatch):
    def __init__(self) -> None:
        super().__init__()
        self.begun_s: list[float] = []

    def __call__(self) -> None:
        self.begun_s.append(time.perf_counter())


def work_of(step_s: float, steps: int, *, batch_size: int = 16, accumulation: int = 1) -> Work:
    """Work whose raw step takes about `step_s` here: the model is made wider until it does.

    Args:
        step_s: of the loop by hand, alone, on one thread, with one micro-batch.
        steps: optimizer steps of the work.
        batch_size: samples in a micro-batch.
        accumulation: micro-batches in a step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        width = 32
        while width < WIDEST and _typical_s(width, batch_size) < step_s * 0.95:
            width = int(width * 1.15) + 1
    finally:
        torch.set_num_threads(threads)
    return Work(width, steps, accumulation=accumulation, batch_size=batch_size)


def _typical_s(width: int, batch_size: int) -> float:
    stamps = _Stamps()
    raw(Work(width, 60, batch_size=batch_size), stamps)
    # The quick ones: what the others had of the machine is no part of it.
    times = [b - a for a, b in itertools.pairwise(stamps.begun_s[10:])]
    return statistics.quantiles(times, n=4)[0]
