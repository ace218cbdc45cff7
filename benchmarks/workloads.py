"""Training steps of a known size, to measure in."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

Step = Callable[[], None]


def mlp_step(width: int, batch_size: int) -> Step:
    """A real optimizer step: forward, backward, AdamW, on a two-layer network on the CPU."""
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    inputs, targets = torch.randn(batch_size, width), torch.randn(batch_size, 1)

    def step() -> None:
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def step_of(seconds: float) -> Step:
    """A step that takes about so long here: the network is made wider until it does."""
    width = 32
    while True:
        step = mlp_step(width, 64)
        if width >= 4096 or _typical_s(step) >= seconds * 0.9:
            return step
        width = int(width * 1.3) + 1


def _typical_s(step: Step) -> float:
    for _ in range(5):
        step()
    times = []
    for _ in range(15):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]
