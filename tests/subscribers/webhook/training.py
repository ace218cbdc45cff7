"""A tiny training with a web hook; also a program that waits in a step until it is ended.

Arguments: an output folder and the address of the web hook.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stepbus import RunSummary, TrainingArguments, TrainingRun, WebhookCallback

STEPS = 4


def train(
    folder: Path,
    *callbacks: Any,
    max_steps: int = STEPS,
    loss: Callable[[int], float | None] = lambda step: None,
    in_step: Callable[[TrainingRun, int], object] = lambda run, step: None,
    handle_signals: bool = False,
    **options: Any,
) -> RunSummary:
    """Trains; `loss` replaces a step's own, `in_step` is called before a step's end."""
    model = torch.nn.Linear(2, 1)
    chosen = {"report_to": "none", "disable_tqdm": True, "run_name": "tiny", "save_strategy": "no"}
    args = TrainingArguments(str(folder), max_steps=max_steps, **{**chosen, **options})
    run = TrainingRun(args, model=model, callbacks=list(callbacks), handle_signals=handle_signals)
    with run:
        for step, _ in enumerate(run.steps([torch.zeros(1)] * max_steps), 1):
            in_step(run, step)
            given = loss(step)
            run.end_step(loss=0.5 if given is None else given)
    assert run.summary is not None
    return run.summary


def wait(run: TrainingRun, step: int) -> None:
    if step == 2:
        # A signal that comes at once is not missed, as it may be by signal.pause().
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told)
        print("WAITING", flush=True)
        os.read(heard, 1)


if __name__ == "__main__":
    output_dir, url = sys.argv[1:]
    train(Path(output_dir), WebhookCallback(url), in_step=wait, handle_signals=True)
