"""Your own loop: accumulation, clipping, a schedule, evaluation, checkpoints and resume.

python examples/hand_written_loop.py OUTPUT_DIR            # trains
python examples/hand_written_loop.py OUTPUT_DIR --resume   # goes on from the last checkpoint
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from stepbus import EarlyStoppingCallback, TrainingArguments, TrainingRun, set_seed

output_dir = sys.argv[1]
set_seed(0)
inputs = torch.randn(512, 8)
targets = (inputs**2).sum(1, keepdim=True)
train = DataLoader(TensorDataset(inputs[:448], targets[:448]), batch_size=16, shuffle=True)
held_out = DataLoader(TensorDataset(inputs[448:], targets[448:]), batch_size=16)
first = nn.Linear(8, 32)
model = nn.Sequential(first, nn.Tanh(), nn.Dropout(0.1), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 70)

args = TrainingArguments(
    output_dir,
    num_train_epochs=5,
    gradient_accumulation_steps=2,
    logging_steps=10,
    eval_strategy="steps",
    eval_steps=20,
    save_steps=20,
    save_total_limit=2,
    load_best_model_at_end=True,
    report_to=["csv", "jsonl"],
)
if "--resume" in sys.argv:
    args.resume_from_checkpoint = True  # type: ignore[assignment]  # the last one in output_dir


def evaluate() -> dict[str, float]:
    model.eval()
    with torch.no_grad():
        losses = [nn.functional.mse_loss(model(x), y) for x, y in run.evaluation_steps(held_out)]
    return {"loss": torch.stack(losses).mean().item()}


with TrainingRun(
    args,
    model=model,
    optimizer=optimizer,
    lr_scheduler=schedule,
    evaluate=evaluate,
    callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
) as run:
    for x, y in run.steps(train):
        loss = nn.functional.mse_loss(model(x), y)
        (loss / run.accumulation).backward()
        if run.accumulating:
            continue
        norm = nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        run.log({"weights": first.weight.norm()})
        run.end_step(loss=loss, grad_norm=norm)

assert run.summary is not None
print(f"{run.summary.status}, step {run.summary.global_step}, best {run.summary.best_checkpoint}")
