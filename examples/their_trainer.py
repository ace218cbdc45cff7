"""The bus behind transformers' own Trainer: one more callback, and votes act on it.

python examples/their_trainer.py
"""

import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

from stepbus import EventBus, Log, RunFailed, Save, TrainEnd, TransformersBridge, Verdict, Vote

bus = EventBus()


@bus.subscribe("log", delivery="gate")
def watch(event: Log) -> list[Vote]:
    loss = event.logs.get("loss")
    if isinstance(loss, float) and loss < 2.0:
        reason = f"a loss of {loss:.2f} is low enough"
        return [Vote("save", reason=reason), Vote("stop", reason=reason)]
    return []


@bus.subscribe("save", "verdict", "train_end", "run_failed")
def tell(event: Save | Verdict | TrainEnd | RunFailed) -> None:
    what = f": {event.action} {event.outcome}" if isinstance(event, Verdict) else ""
    print(f"step {event.step}, {event.name}{what}")


torch.manual_seed(0)
text = [torch.arange(start, start + 16) % 24 for start in range(64)]
samples = [{"input_ids": ids, "labels": ids} for ids in text]
trainer = Trainer(
    model=GPT2LMHeadModel(
        GPT2Config(
            vocab_size=24,
            n_positions=16,
            n_embd=32,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
    ),
    args=TrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=30,
        learning_rate=0.01,
        logging_steps=5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    ),
    train_dataset=samples,
    callbacks=[TransformersBridge(bus)],
)
trainer.train()
