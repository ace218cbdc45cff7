"""The demo's model and data: a small character-level GPT and the text it learns."""

from __future__ import annotations

from .blocks import BlockDataset
from .corpus import Corpus, Vocabulary, python_help_text, read_files
from .evaluation import evaluate_loss
from .model import CharGPT, CharGPTConfig, CharGPTOutput
from .sample import generate

__all__ = [
    "BlockDataset",
    "CharGPT",
    "CharGPTConfig",
    "CharGPTOutput",
    "Corpus",
    "Vocabulary",
    "evaluate_loss",
    "generate",
    "python_help_text",
    "read_files",
]
