"""The two libraries, and others that cases need, under the names that scripts import from them."""

from __future__ import annotations

import importlib
from typing import Any


class Library:
    """A module with a `Trainer`, loaded when it is first asked for something."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.name), name)

    def __repr__(self) -> str:
        return self.name


REFERENCE = Library("transformers")
STEPBUS = Library("stepbus")
DATASETS = Library("datasets")
PEFT = Library("peft")
TOKENIZERS = Library("tokenizers")
