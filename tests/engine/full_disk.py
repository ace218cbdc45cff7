"""Trains with a disk that is full from step 3 on; run by test_bad_input.py."""

from __future__ import annotations

import resource
import signal
import sys

import torch
from torch import nn

from stepbus import TrainingArguments, TrainingRun


def main() -> None:
    model = nn.Linear(400, 400)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    args = TrainingArguments(
        sys.argv[1], max_steps=6, save_steps=2, save_total_limit=1, disable_tqdm=True
    )
    with TrainingRun(args, model=model, optimizer=optimizer) as run:
        for batch in run.steps([torch.ones(2, 400)] * 6):
            model(batch).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if run.state.global_step == 2:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            run.end_step()


if __name__ == "__main__":
    main()
