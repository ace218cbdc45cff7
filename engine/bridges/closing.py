"""The summary of a run of somebody else's trainer, once all has been delivered."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from ...bus import Ledger
from ...bus.diagnostics import get_logger
from ...bus.ledger_file import LedgerFile, write_ledger
from ..summary import RunSummary

log = get_logger()


def completed(
    summary: RunSummary, best_checkpoint: str | None, ledger: Ledger, folder: Path | None
) -> RunSummary:
    """The summary with its ledger, which is left in the run's folder too, and said where off.

    Args:
        summary: how the run ended.
        best_checkpoint: the trainer's best, where it has one.
        ledger: what the run, and each subscriber, cost.
        folder: where `ledger.json` goes; a full disk is only said. None for nowhere.
    """
    summary = dataclasses.replace(summary, best_checkpoint=best_checkpoint, ledger=ledger)
    if folder is not None:
        document = LedgerFile(
            written_at=time.time(),
            status=summary.status,
            reason=summary.reason,
            global_step=summary.global_step,
            runtime_s=summary.runtime_s,
            ledger=ledger,
        )
        try:
            write_ledger(folder, document)
        except OSError as error:
            log.error(f"the ledger could not be written to {folder}: {error}")
    if ledger.troubles:
        log.warning("\n  ".join(["what was off in this run:", *ledger.troubles]))
    return summary
