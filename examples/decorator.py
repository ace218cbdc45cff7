"""A function that listens, and a vote: the run stops once the loss is low enough.

python examples/decorator.py
"""

import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stepbus import EventBus, Log, TrainingArguments, TrainingRun, Vote

bus = EventBus()


@bus.subscribe("log")
def watch(event: Log) -> Vote | None:
    loss = event.logs.get("loss")
    print(f"step {event.step:3d}: {dict(event.logs)}")
    if isinstance(loss, float) and loss < 0.05:
        return Vote("stop", reason=f"a loss of {loss:.3f} is low enough")
    return None


@bus.subscribe("train_end")
def goodbye(event: object) -> None:
    print(event)


torch.manual_seed(0)
inputs = torch.randn(256, 8)
targets = inputs @ torch.randn(8, 1)
loader = DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True)
model = nn.Linear(8, 1)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
args = TrainingArguments(
    tempfile.mkdtemp(),
    num_train_epochs=50,
    logging_steps=10,
    save_strategy="no",
    report_to="none",
)

with TrainingRun(args, model=model, optimizer=optimizer, bus=bus) as run:
    for x, y in run.steps(loader):
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        run.end_step(loss=loss)

assert run.summary is not None
print(f"{run.summary.status} at step {run.summary.global_step}: {run.summary.reason}")
