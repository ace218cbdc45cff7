"""The part of a Trainer that loads data, by itself."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from stepbus import TrainingArguments
from stepbus.engine.trainer.collators import default_data_collator
from stepbus.engine.trainer.loaders import TrainerData


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, input_ids: Any, labels: Any = None) -> Any:
        return input_ids


class Ours(TrainerData):
    def __init__(self, args: TrainingArguments, **given: Any) -> None:
        self.model = Model()
        torch.manual_seed(args.seed)
        self.args = args
        self.train_dataset = given.get("train_dataset")
        self.eval_dataset = given.get("eval_dataset")
        self.data_collator = given.get("data_collator") or default_data_collator
        self.processing_class = given.get("processing_class")
        self.label_names = ["labels"]
        self._train_batch_size = args.train_batch_size
