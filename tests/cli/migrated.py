"""Scripts as people write them for the reference, and what `stepbus migrate` finds in them."""

from __future__ import annotations

import textwrap
from pathlib import Path

from stepbus.cli.migrate.checking import check
from stepbus.cli.migrate.findings import Finding, Kind
from stepbus.cli.migrate.rewriting import Rewriter
from stepbus.cli.migrate.sources import read_source

CLASSIFICATION = '''
"""Fine-tunes a classifier."""
import numpy as np
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,  # stops when nothing improves
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained("tiny")
model = AutoModelForSequenceClassification.from_pretrained("tiny", num_labels=2)


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    return {"accuracy": float((np.argmax(logits, axis=-1) == labels).mean())}


args = TrainingArguments(
    output_dir="out",
    eval_strategy="epoch",
    save_strategy="epoch",
    learning_rate=2e-5,
    per_device_train_batch_size=16,
    num_train_epochs=3,
    weight_decay=0.01,
    load_best_model_at_end=True,
    metric_for_best_model="accuracy",
    bf16=True,
    report_to="tensorboard",
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=load_dataset("x")["train"],
    eval_dataset=load_dataset("x")["test"],
    data_collator=DataCollatorWithPadding(tokenizer),
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
    callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
)
trainer.train()
metrics = trainer.evaluate()
trainer.log_metrics("eval", metrics)
trainer.save_model("out/best")
'''

LANGUAGE_MODEL = """
import logging
import sys
from dataclasses import dataclass, field
from typing import Optional

import transformers
from transformers import AutoModelForCausalLM, HfArgumentParser
from transformers import Trainer, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint


@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default=None)


@dataclass
class MyArguments(TrainingArguments):
    cache_dir: Optional[str] = field(default=None)
    optim: str = field(default="adamw_torch")
    model_max_length: int = 512


def main():
    parser = HfArgumentParser((ModelArguments, MyArguments))
    model_args, training_args = parser.parse_args_into_dataclasses()
    transformers.logging.set_verbosity(training_args.get_process_log_level())
    set_seed(training_args.seed)
    last_checkpoint = get_last_checkpoint(training_args.output_dir)
    model = AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path)
    trainer = Trainer(model=model, args=training_args, train_dataset=None)
    result = trainer.train(resume_from_checkpoint=last_checkpoint)
    trainer.save_metrics("train", result.metrics)
    trainer.save_state()


if __name__ == "__main__":
    main()
"""

WEIGHTED_LOSS = """
import torch
from transformers import Trainer


class WeightedTrainer(Trainer):
    def __init__(self, *args, class_weights=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.class_weights = class_weights

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits, labels, self.class_weights)
        self.log({"aux": loss})
        return (loss, outputs) if return_outputs else loss


trainer = WeightedTrainer(model=None, class_weights=torch.ones(2))
print(trainer.class_weights)
trainer.train()
"""

REFUSED = """
import os

import torch.distributed as dist
from accelerate import Accelerator
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

local_rank = int(os.environ["LOCAL_RANK"])
dist.init_process_group("nccl")
accelerator = Accelerator()
args = TrainingArguments(
    "out",
    deepspeed="ds.json",
    fsdp="full_shard",
    optim="adafactor",
    push_to_hub=True,
    neftune_noise_alpha=5,
    lr_scheduler_type="greedy",
    report_to=["neptune"],
    adafactor=True,
)


class Mine(Trainer):
    def _inner_training_loop(self, *args, **kwargs):
        return super()._inner_training_loop(*args, **kwargs)


trainer = Mine(args=args)
best = trainer.hyperparameter_search(n_trials=3)
trainer.train(trial=best)
trainer.accelerator.wait_for_everyone()
trainer.push_to_hub()
"""


def findings_of(script: str, folder: Path, name: str = "train.py") -> list[Finding]:
    """What is found in a script."""
    path = folder / name
    path.write_text(textwrap.dedent(script), encoding="utf-8")
    return check(read_source(path))


def names_of(findings: list[Finding], kind: Kind, what: str = "") -> list[str]:
    """The names that were found to be of a kind, by line."""
    return [f.name for f in findings if f.kind is kind and what in ("", f.what)]


def rewritten(script: str, folder: Path) -> str:
    """The script with its imports changed."""
    path = folder / "train.py"
    path.write_bytes(script.encode())
    return Rewriter(read_source(path)).content()
