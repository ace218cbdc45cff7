"""What a run came to."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ..bus import Ledger


@dataclass(frozen=True)
class RunSummary:
    """How a run ended, where its files are, and what each subscriber cost."""

    status: str
    """finished, stopped or failed."""
    reason: str
    """Why it was stopped or what failed."""
    global_step: int
    """Optimizer steps done."""
    runtime_s: float
    """From the first step's beginning to the end of the last action, s."""
    metrics: dict[str, Any]
    """The closing figures."""
    output_dir: str
    """Where everything is."""
    checkpoints: tuple[str, ...] = ()
    """The whole checkpoints in it, oldest first."""
    best_checkpoint: str | None = None
    """The best of them, where there is a metric for it."""
    trackers: tuple[str, ...] = ()
    """Trackers that were attached."""
    non_finite: dict[str, int] = field(default_factory=dict)
    """Steps whose loss (`loss`) or gradient norm (`grad_norm`) was NaN or infinite."""
    ledger: Ledger = field(default=Ledger(), repr=False)
    """What the run, and each subscriber, cost."""

    @property
    def undelivered(self) -> int:
        """Events that some subscriber should have had and did not get."""
        return sum(row.num_dropped for row in self.ledger)

    def completed(
        self,
        *,
        checkpoints: tuple[str, ...],
        best_checkpoint: str | None,
        ledger: Ledger,
    ) -> RunSummary:
        """The summary with what is known once all has been delivered."""
        return dataclasses.replace(
            self, checkpoints=checkpoints, best_checkpoint=best_checkpoint, ledger=ledger
        )
