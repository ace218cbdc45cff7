"""A loop with Accelerate: it keeps devices and precision, stepbus keeps the steps.

python examples/accelerate_loop.py OUTPUT_DIR
"""

import sys

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stepbus import TrainingArguments, TrainingRun, set_seed

set_seed(0)
inputs = torch.randn(256, 8)
targets = (inputs**2).sum(1, keepdim=True)
loader = DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 24)

args = TrainingArguments(
    sys.argv[1], num_train_epochs=3, gradient_accumulation_steps=2, logging_steps=4, report_to="csv"
)
# The run counts micro-batches; Accelerate is left to count none.
accelerator = Accelerator(cpu=True, step_scheduler_with_optimizer=False)
model, optimizer, schedule, loader = accelerator.prepare(model, optimizer, schedule, loader)

with TrainingRun(args, model=model, optimizer=optimizer, lr_scheduler=schedule) as run:
    for x, y in run.steps(loader):
        loss = nn.functional.mse_loss(model(x), y)
        accelerator.backward(loss / run.accumulation)
        if run.accumulating:
            continue
        norm = accelerator.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        run.end_step(loss=loss, grad_norm=norm)

assert run.summary is not None
print(f"{run.summary.status}, step {run.summary.global_step}")
