"""An Ignite engine whose data is a run: Ignite keeps its handlers, stepbus the steps and epochs.

python examples/ignite_engine.py OUTPUT_DIR
"""

import sys
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stepbus import TrainingArguments, TrainingRun, set_seed

set_seed(0)
inputs = torch.randn(256, 8)
targets = (inputs**2).sum(1, keepdim=True)
loader = DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True)
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

args = TrainingArguments(
    sys.argv[1], num_train_epochs=3, gradient_accumulation_steps=2, logging_steps=4, report_to="csv"
)


def step(engine: Engine, batch: Any) -> torch.Tensor:
    x, y = batch
    loss = nn.functional.mse_loss(model(x), y)
    (loss / run.accumulation).backward()
    if not run.accumulating:
        optimizer.step()
        optimizer.zero_grad()
        run.end_step(loss=loss)
    return loss.detach()


engine = Engine(step)


@engine.on(Events.ITERATION_COMPLETED(every=32))
def tell(engine: Engine) -> None:
    print(f"Ignite: micro-batch {engine.state.iteration}, loss {engine.state.output:.3f}")


with TrainingRun(args, model=model, optimizer=optimizer) as run:
    # One of Ignite's epochs, whatever the run's are; a stop ends the data.
    engine.run(run.steps(loader), max_epochs=1)

assert run.summary is not None
print(f"{run.summary.status}, step {run.summary.global_step}")
