"""The ledger of a run in its folder, for who reads it once the process has ended."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from ..schemas.errors import ArgumentError
from ..schemas.values import FROZEN
from .ledger import Ledger

FILE = "ledger.json"
VERSION = 1
"""Raised when a field changes its meaning; new fields alone do not raise it."""


class LedgerFile(BaseModel):
    """What is in `ledger.json`: how a training ended, and its ledger."""

    model_config = FROZEN

    schema_version: int = VERSION
    """Version of the fields' meaning."""
    written_at: float = 0.0
    """Wall time, seconds since 1970."""
    status: str
    """finished, stopped or failed."""
    reason: str = ""
    """Why it was stopped or what failed."""
    global_step: int = 0
    """Optimizer steps done."""
    runtime_s: float = 0.0
    """How long it took, s."""
    ledger: Ledger
    """What the run, and each subscriber, cost."""


def write_ledger(folder: Path, document: LedgerFile) -> None:
    """Writes `ledger.json`, whole or not at all; raises OSError."""
    aside = folder / f".{FILE}"
    try:
        aside.write_text(document.model_dump_json(indent=2) + "\n", encoding="utf-8")
        aside.replace(folder / FILE)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def read_ledger(folder: Path) -> LedgerFile:
    """Reads `ledger.json`.

    Raises:
        ArgumentError: there is none, or it is of a later version, or damaged.
    """
    path = folder / FILE
    try:
        document = LedgerFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ArgumentError(
            f"There is no {FILE} in {folder}: it is written there when a training ends. Give the "
            "output_dir of one that has; one that was killed leaves none."
        ) from None
    except (OSError, ValidationError) as error:
        raise ArgumentError(f"{path} cannot be read: {error}") from error
    if document.schema_version > VERSION:
        raise ArgumentError(
            f"{path} was written by a later stepbus (schema_version {document.schema_version}, "
            f"this one reads {VERSION}): read it with that."
        )
    return document
