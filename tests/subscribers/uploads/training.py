"""A tiny training that saves checkpoints; also a program that is killed in the middle of it.

Arguments: an output folder, an address or "hub:" and a repository, storage options as JSON, and
"resume" or "anew".
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stepbus import HubCallback, RunSummary, TrainingArguments, TrainingRun, UploadCallback


def train(
    folder: Path,
    callback: Any,
    *,
    max_steps: int = 3,
    width: int = 64,
    in_step: Callable[[int], None] = lambda step: None,
    on_run: Callable[[TrainingRun], object] = lambda run: None,
    **options: Any,
) -> RunSummary:
    """Saves at each step, unless told otherwise; `in_step` is called before a step's end."""
    torch.manual_seed(0)
    model = torch.nn.Linear(width, width)
    optimizer = torch.optim.AdamW(model.parameters())
    chosen = {"save_steps": 1, "report_to": "none", "disable_tqdm": True, "drain_timeout_s": 60}
    args = TrainingArguments(str(folder), max_steps=max_steps, **{**chosen, **options})
    loader = [torch.randn(4, width) for _ in range(max_steps)]
    callbacks = [] if callback is None else [callback]
    with TrainingRun(args, model=model, optimizer=optimizer, callbacks=callbacks) as run:
        on_run(run)
        for step, batch in enumerate(run.steps(loader), 1):
            model(batch).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            in_step(step)
            run.end_step()
    assert run.summary is not None
    return run.summary


if __name__ == "__main__":
    output_dir, address, options, how = sys.argv[1:]
    callback: HubCallback | UploadCallback
    if address.startswith("hub:"):
        callback = HubCallback(address.removeprefix("hub:"), strategy="all_checkpoints")
    else:
        callback = UploadCallback(address, storage_options=json.loads(options))
    train(Path(output_dir), callback, resume_from_checkpoint=how == "resume")
