"""The training that the async examples follow: an ordinary synchronous function."""

import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stepbus import EventBus, TrainingArguments, TrainingRun


def train(bus: EventBus) -> float:
    """Trains a small model on `bus` and returns its last loss."""
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    targets = inputs.sum(1, keepdim=True)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=16, shuffle=True)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    args = TrainingArguments(
        tempfile.mkdtemp(), num_train_epochs=5, logging_steps=10, report_to="none"
    )
    with TrainingRun(args, model=model, optimizer=optimizer, bus=bus) as run:
        for x, y in run.steps(loader):
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            run.end_step(loss=loss)
    return float(loss.detach())
