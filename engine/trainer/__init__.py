"""The `Trainer`: scripts written for transformers run on it with their imports changed."""

from .collators import DefaultDataCollator, default_data_collator
from .predictions import EvalLoopOutput, EvalPrediction, PredictionOutput, TrainOutput
from .trainer import Trainer

__all__ = [
    "DefaultDataCollator",
    "EvalLoopOutput",
    "EvalPrediction",
    "PredictionOutput",
    "TrainOutput",
    "Trainer",
    "default_data_collator",
]
