"""The training that the async examples follow: an ordinary synchronous function."""

import tempfile

import torch
from torch import nn

from stepbus import EventBus, TrainingArguments, TrainingRun


def train(bus: EventBus) -> float:
    """Trains a small model on `bus` and returns its last loss."""
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    samples = [{"x": x, "y": x.sum().reshape(1)} for x in inputs]
    loader = torch.utils.data.DataLoader(samples, batch_size=16, shuffle=True)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    args = TrainingArguments(
        tempfile.mkdtemp(), num_train_epochs=5, logging_steps=10, report_to="none"
    )
    with TrainingRun(args, model=model, optimizer=optimizer, bus=bus) as run:
        for batch in run.steps(loader):
            loss = nn.functional.mse_loss(model(batch["x"]), batch["y"])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            run.end_step(loss=loss)
    return float(loss.detach())
