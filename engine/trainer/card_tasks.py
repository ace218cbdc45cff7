"""Tags of tasks and metrics as the Hub knows them, and what a model's class is for."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

TASKS: Mapping[str, str] = MappingProxyType(
    {
        "fill-mask": "Masked Language Modeling",
        "image-classification": "Image Classification",
        "image-segmentation": "Image Segmentation",
        "multiple-choice": "Multiple Choice",
        "object-detection": "Object Detection",
        "question-answering": "Question Answering",
        "table-question-answering": "Table Question Answering",
        "text-classification": "Text Classification",
        "text-generation": "Causal Language Modeling",
        "token-classification": "Token Classification",
        "zero-shot-classification": "Zero Shot Classification",
        "automatic-speech-recognition": "Automatic Speech Recognition",
        "audio-classification": "Audio Classification",
    }
)
"""Names of tasks by their tags."""

METRICS = frozenset(
    """
    accuracy bleu f1 matthews_correlation pearsonr precision recall rouge sacrebleu spearmanr wer
    """.split()
)
"""Tags of metrics."""

_HEADS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text-generation": ("CAUSAL_LM",),
        "image-classification": ("IMAGE_CLASSIFICATION",),
        "image-segmentation": ("IMAGE_SEGMENTATION",),
        "fill-mask": ("MASKED_LM",),
        "object-detection": ("OBJECT_DETECTION",),
        "question-answering": ("QUESTION_ANSWERING",),
        "text2text-generation": ("SEQ_TO_SEQ_CAUSAL_LM",),
        "text-classification": ("SEQUENCE_CLASSIFICATION",),
        "table-question-answering": ("TABLE_QUESTION_ANSWERING",),
        "token-classification": ("TOKEN_CLASSIFICATION",),
        "audio-classification": ("AUDIO_CLASSIFICATION",),
        "automatic-speech-recognition": ("CTC", "SPEECH_SEQ_2_SEQ"),
        "zero-shot-image-classification": ("ZERO_SHOT_IMAGE_CLASSIFICATION",),
        "image-text-to-text": ("IMAGE_TEXT_TO_TEXT",),
    }
)
"""The lists of transformers' auto classes that hold the models of a task."""


def task_of(class_name: str) -> str | None:
    """The tag of the task that a class of transformers is for; None where none or not known."""
    auto = sys.modules.get("transformers.models.auto.modeling_auto")
    found = None
    for task, heads in _HEADS.items():
        for head in heads:
            names = getattr(auto, f"MODEL_FOR_{head}_MAPPING_NAMES", {})
            if class_name in _flat(names.values()):
                found = task
    return found


def _flat(values: Iterable[Any]) -> set[str]:
    flat: set[str] = set()
    for value in values:
        flat.update([value] if isinstance(value, str) else value)
    return flat


def metric_tags(names: Iterable[str]) -> dict[str, str]:
    """The metrics that the Hub has a tag for, by that."""
    found = {}
    for name in names:
        tag = name.lower().replace(" ", "_")
        tag = "rouge" if tag == "rouge1" else tag
        if tag in METRICS:
            found[tag] = name
    return found
